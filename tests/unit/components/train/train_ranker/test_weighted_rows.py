"""Do weights reach the gradient, whole and block by block, and do weights of 1 leave every bit as it was?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.data.training_set import SPLITS, EncodedSplit, read_encoded, read_schema, write_encoded
from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Config
from components.train.train_ranker.feed import features_at
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.loop import Replica, train
from components.train.train_ranker.start import of_domain

Weigh = Callable[[EncodedSplit], np.ndarray[Any, Any]]
TIMES = 3.0


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def weighted(tmp_path: Path, training_set_dir: Path) -> Callable[[Weigh | None], Path]:
    """Copy the training set, its rows weighted for `like`."""

    def copy(weigh: Weigh | None) -> Path:
        schema = read_schema(training_set_dir)
        target = tmp_path / f"set{len(list(tmp_path.iterdir()))}"
        target.mkdir()
        changed = schema.model_copy(update={"weighted": ("like",) if weigh else ()})
        (target / "schema.json").write_text(changed.model_dump_json(), encoding="utf-8")
        for name in SPLITS:
            rows = read_encoded(training_set_dir, name, schema)
            weights = {"like": weigh(rows).astype(np.float32)} if weigh else {}
            split = EncodedSplit(rows.features, rows.labels, rows.domain, rows.user, weights)
            write_encoded(target / "encoded" / f"{name}.arrow", split)
        return target

    return copy


def trained(dataset: Path, **config: Any) -> dict[str, torch.Tensor]:
    directory = dataset / f"run{len(list(dataset.iterdir()))}"
    directory.mkdir()
    settings = Config(ranker=RankerConfig.of(name="lr"), epochs=8, batch_size=256, learning_rate=0.02, **config)
    train(TrainingJob(name="test", dataset=dataset, directory=directory, config=settings), Replica())
    return load_file(str(directory / "weights.safetensors"))


def positives_thrice(rows: EncodedSplit) -> np.ndarray[Any, Any]:
    """A positive says what three do, so that the odds of every answer are three times what they were."""
    return np.where(rows.labels["like"] == 1, TIMES, 1.0)


def mean_logit(dataset: Path, weights: dict[str, torch.Tensor]) -> float:
    from components.rankers.build import build_ranker

    schema = read_schema(dataset)
    ranker = build_ranker(RankerConfig.of(name="lr"), schema)
    ranker.load_state_dict(weights)
    rows = read_encoded(dataset, "test", schema)
    with torch.no_grad():
        return torch.logit(ranker.eval()(features_at(rows, slice(None), torch.device("cpu")))["like"]).mean().item()


@pytest.mark.parametrize("config", [{}, {"shuffle_rows": 1000}], ids=["whole", "by blocks"])
def test_weights_move_the_answers_as_repeated_rows_would(weighted: Callable[..., Path], config: dict[str, Any]) -> None:
    plain, thrice = weighted(None), weighted(positives_thrice)
    moved = mean_logit(thrice, trained(thrice, **config)) - mean_logit(plain, trained(plain, **config))
    assert moved == pytest.approx(np.log(TIMES), abs=0.15)


def test_weights_of_one_change_no_bit(weighted: Callable[..., Path]) -> None:
    plain, ones = trained(weighted(None)), trained(weighted(lambda rows: np.ones(rows.rows)))
    assert all(torch.equal(plain[name], ones[name]) for name in plain)


def test_one_domain_keeps_the_weights_of_its_rows(weighted: Callable[..., Path]) -> None:
    dataset = weighted(positives_thrice)
    schema = read_schema(dataset)
    rows = read_encoded(dataset, "train", schema)
    alone = of_domain(rows, schema, schema.domains[0])
    assert alone.weights["like"].tolist() == positives_thrice(alone).tolist()
