"""Two days of one world: the first is trained, the second is to continue."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from components.rankers.config import RankerConfig
from components.train.continue_ranker.config import LAST_SEEN, TableGrowth
from components.train.continue_ranker.dataset import regrow
from components.train.ranker_files import CONFIG, WEIGHTS
from components.train.train_ranker.config import Checkpoints, Config
from components.train.train_ranker.job import OPTIMISER, TrainingJob
from components.train.train_ranker.loop import Replica, train
from features.encoding.files import FILES
from tests.registered import OPTIONS
from tests.worlds import World, make_world, write_training_set

FORGET = 18


@dataclass(frozen=True)
class Days:
    """The folders of two days.

    Attributes:
        first: training set of the first day.
        second: of the second, whose window begins later.
        grown: the second with the vocabularies of both.
        tables: its counts.
        root: where rankers of the first day go.
    """

    first: Path
    second: Path
    grown: Path
    tables: tuple[TableGrowth, ...]
    root: Path


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    root = tmp_path_factory.mktemp("days")
    world = make_world(6000, users=600, items=300)

    def part(start: int, rows: int) -> World:
        return dataclasses.replace(world, table=world.table.slice(start, rows))

    alone, first = write_training_set(root / "alone", world=part(0, 3000)), root / "first"
    second = write_training_set(root / "second", world=part(2500, 3000))
    regrow(alone, None, first, FORGET)
    tables = regrow(second, first, root / "grown", FORGET)  # a ranker's encoder and schema are its training set's
    return Days(first, second, root / "grown", tables, root)


def job_of(dataset: Path, directory: Path, name: str = "esmm", **config: Any) -> TrainingJob:
    directory.mkdir(parents=True, exist_ok=True)
    ranker = RankerConfig.of(name=name, hidden=(16, 8) if "hidden" in OPTIONS[name] else None)
    settings = {"epochs": 1, "batch_size": 128, "checkpoints": Checkpoints(steps=5), "learning_rate": 0.01} | config
    return TrainingJob(
        name="test", dataset=dataset, directory=directory, config=Config(ranker=ranker, **settings),
        keeps_optimiser=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def yesterday(days: Days) -> Callable[..., Path]:
    """Return a complete `Ranker` directory of the first day, trained once per kind."""

    def made(name: str = "esmm", **config: Any) -> Path:
        tag = json.dumps([name, config], default=lambda value: value.model_dump())
        folder = days.root / f"ranker-{abs(hash(tag))}"
        if not folder.exists():
            job = job_of(days.first, days.root / f"job-{folder.name}", name, **config)
            train(job, Replica())
            folder.mkdir()
            for file in (WEIGHTS, OPTIMISER):
                shutil.copy(job.directory / file, folder / file)
            for file in ("schema.json", *FILES, LAST_SEEN):
                shutil.copy(days.first / file, folder / file)
            (folder / CONFIG).write_text(job.config.ranker.model_dump_json())
        return folder

    return made
