"""Does a run that was interrupted end with the weights of one that was not, whatever interrupted it?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.rankers.config import RankerConfig
from components.train.train_ranker import checkpoints, loop
from components.train.train_ranker.config import Checkpoints, Config, Tables
from components.train.train_ranker.job import TrainingJob, read_progress
from components.train.train_ranker.loop import Replica, train
from components.train.train_ranker.losses import Loss
from tests.registered import OPTIONS
from tests.worlds import write_training_set

BATCH, STEPS = 64, 5
"""Rows of a batch, and steps between checkpoints."""


class Interrupted(Exception):
    """Stands for whatever ends a process: nothing of the loop runs after it."""


@pytest.fixture(scope="module")
def training_set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set of fifteen batches: three times `STEPS`."""
    return write_training_set(tmp_path_factory.mktemp("training_set"), rows=1200)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def job_of(dataset: Path, directory: Path, **config: Any) -> TrainingJob:
    directory.mkdir(parents=True, exist_ok=True)
    name = config.pop("name", "esmm")
    ranker = RankerConfig.of(
        name=name,
        hidden=(16, 8) if "hidden" in OPTIONS[name] else None,
        dropout=0.3 if "dropout" in OPTIONS[name] else None,
    )
    settings = {"epochs": 3, "patience": 3, "batch_size": BATCH, "checkpoints": Checkpoints(steps=STEPS)} | config
    return TrainingJob(name="test", dataset=dataset, directory=directory, config=Config(ranker=ranker, **settings))


def interrupted(job: TrainingJob, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Train and stop dead before step `steps` + 1 of the whole run."""
    taken = 0

    def counted(*args: Any) -> Loss:
        nonlocal taken
        taken += 1
        if taken > steps:
            raise Interrupted
        return take_step(*args)

    take_step = loop.take_step
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "take_step", counted)
        train(job, Replica())


def result(job: TrainingJob) -> tuple[dict[str, torch.Tensor], list[Any]]:
    weights = load_file(str(job.directory / "weights.safetensors"))
    return weights, [line.report for line in read_progress(job.directory)]


def same(left: tuple[dict[str, torch.Tensor], list[Any]], right: tuple[dict[str, torch.Tensor], list[Any]]) -> bool:
    return left[1] == right[1] and all(torch.equal(left[0][name], right[0][name]) for name in left[0])


@pytest.mark.parametrize("optimiser", ["rowwise_adagrad", "rowwise_adam", "adam"])
@pytest.mark.parametrize("name", ["esmm", "adaptdhm", "fintrec", "lr"])
def test_it_ends_with_the_same_bits(
    name: str, optimiser: Any, tmp_path: Path, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"name": name, "tables": Tables(optimiser=optimiser), "epochs": 2}
    whole, parts = (job_of(training_set_dir, tmp_path / folder, **config) for folder in ("whole", "parts"))
    train(whole, Replica())
    per_epoch = -(-read_rows(training_set_dir) // BATCH)
    for steps in (1, per_epoch - 2, per_epoch + 1):  # before any checkpoint, within an epoch, in the next one
        interrupted(parts, monkeypatch, steps)
    train(parts, Replica())
    assert same(result(whole), result(parts))


def read_rows(dataset: Path) -> int:
    return int(json.loads((dataset / "schema.json").read_text())["rows"])


def test_without_a_checkpoint_it_would_not(
    tmp_path: Path, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: optimiser rows left out of what is restored."""
    whole, parts = (job_of(training_set_dir, tmp_path / folder) for folder in ("whole", "parts"))
    train(whole, Replica())
    interrupted(parts, monkeypatch, STEPS + 2)
    monkeypatch.setattr(loop.RankerOptimiser, "load", lambda self, tensors: None)
    train(parts, Replica())
    assert not same(result(whole), result(parts))


@pytest.mark.parametrize("damage", ["flipped", "short", "gone", "position"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_serves(
    damage: str,
    tmp_path: Path,
    training_set_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, parts = (job_of(training_set_dir, tmp_path / folder) for folder in ("whole", "parts"))
    train(whole, Replica())
    interrupted(parts, monkeypatch, 2 * STEPS + 1)
    last = max((parts.directory / checkpoints.FOLDER).iterdir())
    state = last / checkpoints.STATE
    if damage == "flipped":
        content = bytearray(state.read_bytes())
        content[-3] ^= 1
        state.write_bytes(content)
    elif damage == "short":
        state.write_bytes(state.read_bytes()[:100])
    elif damage == "gone":
        state.unlink()
    else:
        (last / checkpoints.POSITION).write_text("{")
    train(parts, Replica())
    assert f"checkpoint {last} is damaged and left out" in caplog.text
    assert same(result(whole), result(parts))


def test_a_full_disk_costs_checkpoints_and_not_the_run(
    tmp_path: Path, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    whole, full = (job_of(training_set_dir, tmp_path / folder) for folder in ("whole", "full"))
    train(whole, Replica())

    def refuses(tensors: Any, path: str) -> None:
        if checkpoints.FOLDER in path:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", path)
        save_file(tensors, path)

    save_file = safetensors.torch.save_file
    monkeypatch.setattr(safetensors.torch, "save_file", refuses)
    train(full, Replica())
    assert same(result(whole), result(full))
    warnings = [line.warning for line in read_progress(full.directory)]
    assert all("No space left on device" in str(warning) and "training goes on" in str(warning) for warning in warnings)
    assert list((full.directory / checkpoints.FOLDER).iterdir()) == [], "no half checkpoint is left"


def test_as_many_are_kept_as_asked_for(tmp_path: Path, training_set_dir: Path) -> None:
    job = job_of(training_set_dir, tmp_path / "run", checkpoints=Checkpoints(steps=STEPS, keep=3), epochs=1)
    train(job, Replica())
    names = sorted(path.name for path in (job.directory / checkpoints.FOLDER).iterdir())
    assert len(names) == 3
    assert names[-1] == "000002-000000000", "the newest is the end of the epoch"


def test_a_run_that_is_over_is_not_trained_again(
    tmp_path: Path, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(training_set_dir, tmp_path / "run", epochs=1)
    train(job, Replica())
    before = result(job)
    monkeypatch.setattr(loop, "take_step", None)
    train(job, Replica())
    assert same(before, result(job))


def test_the_progress_file_goes_back_with_the_checkpoint(
    tmp_path: Path, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(training_set_dir, tmp_path / "run", epochs=2)
    train(job, Replica())
    newest = max((job.directory / checkpoints.FOLDER).iterdir())
    shutil.rmtree(newest)  # as if the process had been killed between the report and the checkpoint
    position = checkpoints.rewind(job.directory)
    assert position is not None
    assert len(read_progress(job.directory)) == len(position.history) == 1
    shutil.rmtree(job.directory / checkpoints.FOLDER)
    assert checkpoints.rewind(job.directory) is None
    assert read_progress(job.directory) == []
