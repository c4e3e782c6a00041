"""Do towers that multiply in bfloat16 learn what towers in float32 learn, and stay tables and answers float32?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Config
from components.train.train_ranker.job import TrainingJob, read_progress
from components.train.train_ranker.loop import Replica, train
from tests.registered import OPTIONS, RANKERS


def trained(dataset: Path, directory: Path, name: str, precision: Any) -> tuple[float, dict[str, torch.Tensor]]:
    directory.mkdir()
    ranker = RankerConfig.of(name=name, hidden=(16, 8) if "hidden" in OPTIONS[name] else None)
    config = Config(ranker=ranker, epochs=1, batch_size=256, precision=precision)
    train(TrainingJob(name="test", dataset=dataset, directory=directory, config=config), Replica())
    return read_progress(directory)[0].report.train_loss, load_file(str(directory / "weights.safetensors"))


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_bfloat16_is_near_float32(name: str, tmp_path: Path, training_set_dir: Path) -> None:
    torch.set_num_threads(1)
    exact, weights = trained(training_set_dir, tmp_path / "float32", name, "float32")
    short, shortened = trained(training_set_dir, tmp_path / "bfloat16", name, "bfloat16")
    assert short == pytest.approx(exact, rel=0.01)
    assert {value.dtype for value in shortened.values()} == {value.dtype for value in weights.values()}
    if name != "lr":  # which multiplies next to nothing
        assert short != exact, "the switch reaches the towers"
