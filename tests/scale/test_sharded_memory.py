"""Does a worker that holds half of a table take half of its memory? Two workers, with whole tables and with shards."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.data.training_set import SPLITS, read_encoded, read_schema, write_encoded
from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Config, Tables
from components.train.train_ranker.job import TrainingJob
from tests.worlds import write_training_set

ROOT = Path(__file__).resolve().parents[2]
VALUES, WIDTH = 4_000_000, 16
TABLE_MIB = VALUES * WIDTH * 4 / 2**20
OPTIMISER_MIB = TABLE_MIB * (1 + 1 / WIDTH)
"""A moment for each number, and one more number for each row."""
ROWS = 40_000

WORKER = """
import json, sys
from pathlib import Path
import torch, torch.distributed as dist
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.loop import Replica, train
from tests.benchmarks.child import memory
meeting, rank, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
before = memory("VmRSS")
train(TrainingJob.model_validate_json(file.read_text()), Replica(rank, 2))
print(json.dumps(memory("VmHWM") - before))
dist.destroy_process_group()
"""


def write_many_values(dataset: Path) -> None:
    """Write a training set whose users are values of a large table, seen from its first row to its last."""
    write_training_set(dataset, rows=ROWS)
    schema = read_schema(dataset)
    draw = np.random.default_rng(0)
    for split in SPLITS:
        rows = read_encoded(dataset, split, schema)
        users = draw.integers(2, VALUES, rows.rows)
        made = dataset / "encoded" / f"{split}.new"
        write_encoded(made, replace(rows, features={**rows.features, "user_id": users}))
        made.replace(dataset / "encoded" / f"{split}.arrow")
    fields = tuple(f.model_copy(update={"size": VALUES}) if f.name == "user_id" else f for f in schema.fields)
    (dataset / "schema.json").write_text(schema.model_copy(update={"fields": fields}).model_dump_json())


def highest(folder: Path, sharded: bool) -> list[float]:
    """Return by worker the MiB that a training took at most, besides what the process has before it begins."""
    directory = folder / f"sharded {sharded}"
    directory.mkdir()
    config = Config(ranker=RankerConfig.of("dnn"), epochs=1, tables=Tables(sharded=sharded))
    file = TrainingJob(name="test", dataset=folder / "data", directory=directory, config=config).write()
    command = [sys.executable, "-c", WORKER, str(directory / "meet")]
    workers = [
        subprocess.Popen([*command, str(rank), str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    return [float(json.loads(worker.communicate()[0])) for worker in workers]


@pytest.mark.scale
def test_a_worker_takes_what_its_half_of_the_table_takes(tmp_path: Path) -> None:
    write_many_values(tmp_path / "data")
    whole, shards = (highest(tmp_path, sharded) for sharded in (False, True))
    print(f"MiB by worker: {whole} with the whole table, {shards} with a shard each")  # noqa: T201 shown with -s
    saved = (TABLE_MIB + OPTIMISER_MIB) / 2
    for all_rows, half in zip(whole, shards, strict=True):
        assert all_rows - half == pytest.approx(saved, rel=0.15)
    first, second = ((tmp_path / f"sharded {way}" / "weights.safetensors").read_bytes() for way in (False, True))
    assert first == second
