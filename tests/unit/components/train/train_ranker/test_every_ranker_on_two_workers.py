"""Do two workers make the model of one, whichever ranker they train? One real gloo pair trains them all in turn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Config
from components.train.train_ranker.job import TrainingJob, read_progress
from components.train.train_ranker.loop import Replica, train
from tests.registered import OPTIONS, RANKERS
from tests.worlds import write_training_set

ROOT = Path(__file__).resolve().parents[5]
BLOCKS: dict[str, RankerConfig] = {
    name: RankerConfig.of(
        name=name,
        hidden=(16, 8) if "hidden" in OPTIONS[name] else None,
        dropout=0.0 if "dropout" in OPTIONS[name] else None,
    )
    for name in sorted(RANKERS)
}
BLOCKS["dnn, hashed"] = RankerConfig.of(name="dnn", hidden=(16, 8), embedding="hashed", buckets=64)
BLOCKS["gnolr, contrast"] = RankerConfig.of(name="gnolr", hidden=(16, 8), contrast={"weight": 0.5})
ROWS = 402
"""321 train, in batches of 320: the last one leaves a worker without a row."""

WORKER = """
import sys
from pathlib import Path
from tests.unit.components.train.train_ranker.test_every_ranker_on_two_workers import train_all
train_all(Path(sys.argv[1]), int(sys.argv[2]), 2)
"""


def train_all(folder: Path, rank: int, world: int) -> None:
    """Train every ranker for two steps as worker `rank` of `world`, each into a folder of its own."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    for title, ranker in BLOCKS.items():
        directory = folder / f"{world}" / title
        directory.mkdir(parents=True, exist_ok=True)
        # Adam makes of a gradient that is mostly rounding a step of up to this size: what differs shows well below it.
        config = Config(ranker=ranker, epochs=1, batch_size=320, learning_rate=0.003)
        train(
            TrainingJob(name="test", dataset=folder / "data", directory=directory, config=config), Replica(rank, world)
        )
    if world > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `1/<ranker>` and `2/<ranker>`."""
    folder = tmp_path_factory.mktemp("workers")
    write_training_set(folder / "data", rows=ROWS)
    command = [sys.executable, "-c", WORKER, str(folder)]
    workers = [subprocess.Popen([*command, str(rank)], cwd=ROOT) for rank in (0, 1)]
    threads = torch.get_num_threads()
    train_all(folder, 0, 1)
    torch.set_num_threads(threads)
    assert [worker.wait(200) for worker in workers] == [0, 0]
    return folder


@pytest.mark.parametrize("title", BLOCKS)
def test_two_workers_make_the_model_of_one(title: str, trained: Path) -> None:
    one, two = (load_file(str(trained / world / title / "weights.safetensors")) for world in "12")
    assert one.keys() == two.keys()
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, atol=1e-5, rtol=1e-5, msg=lambda text, at=name: f"{at}: {text}")
    [alone], [pair] = (read_progress(trained / world / title) for world in "12")
    assert pair.report.train_loss == pytest.approx(alone.report.train_loss, abs=1e-5)
    assert pair.report.metrics == pytest.approx(alone.report.metrics, abs=1e-4)


def test_the_last_batch_leaves_a_worker_without_a_row(trained: Path) -> None:
    from components.data.training_set import read_encoded, read_schema
    from components.train.train_ranker.feed import share

    rows = read_encoded(trained / "data", "train", read_schema(trained / "data")).rows
    assert rows == 321
    left = [share(rows - 320, rank, 2) for rank in (0, 1)]
    assert sorted(part.stop - part.start for part in left) == [0, 1]
