"""Are the maps of attention those of the kept weights, named as the fields are, and there only where fields attend?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from components.data.training_set import read_encoded, read_schema
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.testing.ranker import example_batch, example_schema
from components.train.ranker_files import CONFIG, WEIGHTS, load_ranker
from components.train.train_ranker import ray_launch
from components.train.train_ranker.attention import (
    ATTENTION,
    MeanAttention,
    leave_attention,
    mean_attention,
    read_attention,
)
from components.train.train_ranker.component import fill
from components.train.train_ranker.config import Config, EpochReport
from components.train.train_ranker.curves import draw_curves
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.loop import Replica
from features.encoding.files import FILES


def ranker(**block: Any) -> RankerModule:
    torch.manual_seed(0)
    made = build_ranker(RankerConfig.model_validate({"name": "autoint", **block}), example_schema("like"))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return made.eval()


@pytest.mark.parametrize("sequence", ["mean", "tin"])
def test_a_map_is_named_as_its_fields_are(sequence: str) -> None:
    """Another value of a field changes how its own column stands to the others in the first layer, and no other."""
    made, batch = ranker(sequence=sequence), example_batch(6)
    names = made.attended()
    first, second, *_ = made.attention(batch)
    assert first.shape == second.shape == (6, 2, len(names), len(names))
    torch.testing.assert_close(second.sum(dim=3), torch.ones_like(second[..., 0]))
    assert {"item_id", "popularity", "taste 1", "taste 3", "genres"} <= {*names}
    assert ("recent_items 2" in names) == (sequence == "tin")
    for field in ("popularity", "taste", "genres", "user_id", "recent_likes"):
        moved = batch | {field: batch[field] + 1.5 if field in ("popularity", "taste") else batch[field].flip(0)}
        changed = made.attention(moved)[0]
        mine = [at for at, name in enumerate(names) if name.split()[0] == field]
        others = [at for at in range(len(names)) if at not in mine]
        kept = [each[..., others, :][..., others] for each in (first, changed)]
        before, after = (each / each.sum(dim=3, keepdim=True) for each in kept)
        torch.testing.assert_close(after, before)
        assert (changed[..., mine] - first[..., mine]).abs().max() > 1e-4, field


def test_only_fields_that_attend_have_a_map() -> None:
    silent = (ranker(name="dnn"), ranker(name="dcnv2"), ranker(name="din"), ranker(name="onepiece"))
    assert all(each.attended() == each.attention(example_batch(2)) == () for each in silent)


@pytest.fixture(scope="module")
def trained(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingJob]:
    """Jobs as the training process runs them, of a ranker with maps and of one without."""
    jobs = {}
    threads = torch.get_num_threads()
    for name in ("autoint", "dnn"):
        config = Config(ranker=RankerConfig.of(name=name, hidden=(8,)), epochs=2, learning_rate=0.01)
        folder = tmp_path_factory.mktemp(name)
        jobs[name] = TrainingJob(name=name, dataset=training_set_dir, directory=folder, config=config)
        ray_launch._learn(jobs[name], Replica(), threads)
    return jobs


def test_a_training_leaves_the_mean_of_its_kept_weights(trained: dict[str, TrainingJob], tmp_path: Path) -> None:
    assert read_attention(trained["dnn"].directory) is None
    job = trained["autoint"]
    found = read_attention(job.directory)
    assert found is not None
    leave_attention(job, ranker())  # whatever weights it is given, those that were kept are shown
    assert read_attention(job.directory) == found
    (job.directory / "curves.png").write_bytes(b"a picture")
    (tmp_path / "draft").mkdir()
    fill(tmp_path / "draft", job, [])
    assert {file.name for file in (tmp_path / "draft").iterdir()} == {
        WEIGHTS, CONFIG, "schema.json", *FILES, "history.json", "curves.png", ATTENTION,
    }  # fmt: skip
    rows, kept = read_encoded(job.dataset, "validation", read_schema(job.dataset)), load_ranker(tmp_path / "draft")
    assert found == mean_attention(kept, rows)
    batch = {name: torch.from_numpy(np.asarray(values)) for name, values in rows.padded().items()}
    assert found.rows == rows.rows <= 1000
    for layer, maps in zip(found.layers, kept.attention(batch), strict=True):
        np.testing.assert_allclose(np.array(layer), maps.mean(dim=0).detach().numpy(), atol=1e-4)


def test_the_picture_holds_maps_only_where_there_are_some(tmp_path: Path) -> None:
    history = [EpochReport(epoch=1, train_loss=0.5, metrics={"validation/like/auc": 0.7}, best=True)]
    one = ((0.75, 0.25), (0.1, 0.9))
    maps = MeanAttention(rows=3, fields=("item", "$x$"), layers=((one, one), (one, one), (one, one)))
    for name, attention in {"plain": None, "maps": maps, "again": maps}.items():
        draw_curves(history, tmp_path / f"{name}.png", attention)
    plain, drawn = (imread(tmp_path / f"{name}.png") for name in ("plain", "maps"))
    assert plain.shape[:2] == (432, 1440) and drawn.shape[0] > 2 * plain.shape[0]
    assert (tmp_path / "maps.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert json.loads(maps.model_dump_json())["layers"][0][0] == [[0.75, 0.25], [0.1, 0.9]]
