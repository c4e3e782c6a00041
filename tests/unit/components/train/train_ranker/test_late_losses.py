"""Does training that reads its losses one step late do what training that waits for each of them does?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from components.data.training_set import SPLITS, EncodedSplit, read_encoded, read_schema, write_encoded
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.train_ranker import loop
from components.train.train_ranker.checkpoints import newest
from components.train.train_ranker.config import Checkpoints, Config, Knobs, Tables
from components.train.train_ranker.feed import Batch, Plan, batches, open_split
from components.train.train_ranker.job import TrainingJob, read_progress
from components.train.train_ranker.loop import Replica, take_step, train
from components.train.train_ranker.losses import Loss, Losses
from components.train.train_ranker.optimiser import RankerOptimiser
from tests.registered import OPTIONS
from tests.worlds import write_training_set

AT_ONCE, LATE = Replica(late=False), Replica(late=True)
BATCH = 64


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def training_set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set of some fifteen batches."""
    return write_training_set(tmp_path_factory.mktemp("training_set"), rows=1200)


def job_of(dataset: Path, directory: Path, name: str = "esmm", **config: Any) -> TrainingJob:
    directory.mkdir(parents=True, exist_ok=True)
    ranker = RankerConfig.of(
        name=name,
        hidden=(16, 8) if "hidden" in OPTIONS[name] else None,
        dropout=0.3 if "dropout" in OPTIONS[name] else None,
    )
    settings = {"epochs": 2, "batch_size": BATCH, "checkpoints": Checkpoints(steps=5)} | config
    return TrainingJob(name="test", dataset=dataset, directory=directory, config=Config(ranker=ranker, **settings))


def result(job: TrainingJob) -> tuple[dict[str, torch.Tensor], list[Any]]:
    weights = load_file(str(job.directory / "weights.safetensors"))
    return weights, [line.report for line in read_progress(job.directory)]


def same(left: TrainingJob, right: TrainingJob) -> bool:
    (weights, reports), (others, said) = result(left), result(right)
    return reports == said and all(torch.equal(values, others[name]) for name, values in weights.items())


@pytest.mark.parametrize("optimiser", ["rowwise_adagrad", "rowwise_adam", "adam"])
@pytest.mark.parametrize("name", ["esmm", "din", "adaptdhm", "lr"])
def test_it_ends_with_the_same_bits(name: str, optimiser: Any, tmp_path: Path, training_set_dir: Path) -> None:
    config: dict[str, Any] = {"tables": Tables(optimiser=optimiser), "weight_decay": 0.01}
    jobs = [job_of(training_set_dir, tmp_path / folder, name, **config) for folder in ("at_once", "late")]
    for job, replica in zip(jobs, (AT_ONCE, LATE), strict=True):
        train(job, replica)
    assert same(*jobs)


@pytest.mark.parametrize("steps", [1, 5, 9, 17])
def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_happened(
    steps: int, tmp_path: Path, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (job_of(training_set_dir, tmp_path / folder) for folder in ("whole", "parts"))
    train(whole, AT_ONCE)
    taken = 0

    def counted(*args: Any) -> Loss:
        nonlocal taken
        taken += 1
        if taken > steps:
            raise KeyboardInterrupt
        return take_step(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "take_step", counted)
        train(parts, LATE)
    train(parts, LATE)
    assert same(whole, parts)


def changed(source: Path, folder: Path, change: Callable[[EncodedSplit], EncodedSplit]) -> Path:
    """Write a training set of which the training rows are changed."""
    folder.mkdir(parents=True)
    shutil.copy(source / "schema.json", folder / "schema.json")
    schema = read_schema(source)
    for name in SPLITS:
        rows = read_encoded(source, name, schema)
        write_encoded(folder / "encoded" / f"{name}.arrow", change(rows) if name == "train" else rows)
    return folder


def ranker_of(block: dict[str, Any], dataset: Path) -> tuple[RankerModule, EncodedSplit]:
    schema = read_schema(dataset)
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.model_validate(block), schema).train()
    return ranker, open_split(dataset, "train", schema)


def batches_of(split: EncodedSplit, jagged: bool) -> list[Batch]:
    with batches(split, Plan(BATCH, 0, split.rows, 0, 1, torch.device("cpu"), jagged=jagged), 1) as ready:
        return list(ready)


def poisoned(rows: EncodedSplit) -> EncodedSplit:
    popularity = np.array(rows.features["popularity"])
    popularity[7, 0] = np.nan
    return EncodedSplit(rows.features | {"popularity": popularity}, rows.labels, rows.domain, rows.user)


def exploded(rows: EncodedSplit) -> EncodedSplit:
    popularity = np.array(rows.features["popularity"])
    popularity[7:30, 0] = 3e12  # some of them are liked, and some are not
    return EncodedSplit(rows.features | {"popularity": popularity}, rows.labels, rows.domain, rows.user)


@pytest.mark.parametrize("optimiser", ["rowwise_adagrad", "rowwise_adam", "adam"])
@pytest.mark.parametrize("change", [poisoned, exploded])
@pytest.mark.parametrize("batch", [BATCH, 10_000])
def test_a_loss_that_is_no_number_ends_training_with_the_same_sentence(
    change: Callable[[EncodedSplit], EncodedSplit], batch: int, optimiser: Any, tmp_path: Path, training_set_dir: Path
) -> None:
    """In the middle of an epoch, and in its only step, behind which no other looks."""
    dataset = changed(training_set_dir, tmp_path / "data", change)
    said, checkpoints = [], []
    for folder, replica in (("at_once", AT_ONCE), ("late", LATE)):
        config: dict[str, Any] = {"tables": Tables(optimiser=optimiser), "checkpoints": Checkpoints(steps=1, keep=100)}
        job = job_of(dataset, tmp_path / folder, batch_size=batch, weight_decay=0.01, **config)
        with pytest.raises(BadInputError, match="training diverged: the loss is ") as error:
            train(job, replica)
        said.append(str(error.value))
        found = newest(job.directory)
        checkpoints.append(None if found is None else (found[0].step, found[0].loss, found[0].state))
        assert not (job.directory / "weights.safetensors").exists()
    assert said[0] == said[1]
    assert checkpoints[0] == checkpoints[1], "nothing was kept of a step that learned nothing"


def spoiled(batch: Batch) -> Batch:
    values = batch.features["popularity"].clone()
    values[3] = torch.nan
    return replace(batch, features=batch.features | {"popularity": values})


@pytest.mark.parametrize("latch", [True, False])
@pytest.mark.parametrize("optimiser", ["rowwise_adagrad", "rowwise_adam", "adam"])
def test_from_a_loss_that_is_no_number_on_no_weight_changes(
    optimiser: Any, latch: bool, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control, a step that does not see to its loss, spoils them."""
    ranker, split = ranker_of({"name": "esmm"}, training_set_dir)
    taught = RankerOptimiser(ranker, Knobs(tables=Tables(optimiser=optimiser), weight_decay=0.1), late=True)
    if not latch:
        monkeypatch.setattr("components.train.train_ranker.optimiser.healthy", lambda loss: torch.ones(()))
    first, second, third, *_ = batches_of(split, ranker.jagged)
    take_step(ranker, taught, first, "float32", LATE)
    before = {name: parameter.detach().clone() for name, parameter in ranker.named_parameters()}
    loss = take_step(ranker, taught, spoiled(second), "float32", LATE)
    assert np.isnan(loss.read())
    take_step(ranker, taught, third, "float32", LATE)  # is under way before anybody knows
    kept = [torch.equal(parameter, before[name]) for name, parameter in ranker.named_parameters()]
    assert all(kept) if latch else not any(kept)


@dataclass
class Number:
    """A loss that notes when it is read."""

    value: float
    read_at: list[float]

    def read(self) -> float:
        self.read_at.append(self.value)
        return self.value


def test_a_loss_is_read_when_the_next_step_is_under_way() -> None:
    seen: list[float] = []
    batch = Batch(1, 10, 10, {}, {})
    losses = Losses(5.0, late=True, diverged=lambda batch, loss: BadInputError(f"{loss} in step {batch.step}"))
    losses.add(batch, Number(1.0, seen))  # type: ignore[arg-type]  # reads as one does
    assert seen == []
    losses.add(batch, Number(2.0, seen))  # type: ignore[arg-type]
    assert seen == [1.0]
    assert losses.total() == 5.0 + 10 * 1.0 + 10 * 2.0
    assert losses.total() == 35.0, "no loss counts twice"
    losses.add(batch, Number(float("nan"), seen))  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="nan in step 1"):
        losses.add(Batch(2, 10, 10, {}, {}), Number(1.0, seen))  # type: ignore[arg-type]


class Waits(TorchDispatchMode):
    """Notes the calls whose answer, or whose size, a device has to be waited for."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")

    def __init__(self, optimiser: RankerOptimiser) -> None:
        super().__init__()
        self.found: list[str] = []
        rows = optimiser.rows.state() if optimiser.rows else {}
        self.here = {rows["steps"].data_ptr()} if "steps" in rows else set()
        """What lies on the CPU wherever the ranker computes."""

    def __torch_dispatch__(self, called: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        name = called.overloadpacket.__name__
        known = name == "_local_scalar_dense" and given[0].data_ptr() in self.here
        masks = name in ("index", "index_put", "index_put_") and any(
            at is not None and at.dtype == torch.bool for at in given[1]
        )
        if (name in self.NAMES and not known) or masks:
            self.found.append(name)
        return called(*given, **(options or {}))


@pytest.mark.parametrize("optimiser", ["rowwise_adagrad", "rowwise_adam", "adam"])
@pytest.mark.parametrize(
    "block",
    [
        {"name": "esmm"},
        {"name": "din"},
        {"name": "lr"},
        {"name": "gnolr"},
        {"name": "mmoe", "sequence": "tin", "interaction": "dcnv2"},
        {"name": "dnn", "interaction": "autoint", "embedding": "hashed", "buckets": 50},
    ],
    ids=lambda block: "-".join(str(value) for value in block.values()),
)
def test_nobody_waits_within_a_step(block: dict[str, Any], optimiser: Any, training_set_dir: Path) -> None:
    ranker, split = ranker_of(block, training_set_dir)
    found = []
    for replica in (AT_ONCE, LATE):
        taught = RankerOptimiser(ranker, Knobs(tables=Tables(optimiser=optimiser)), replica.reads_late)
        first, second, *_ = batches_of(split, ranker.jagged)
        take_step(ranker, taught, first, "float32", replica)
        with Waits(taught) as waits:
            take_step(ranker, taught, second, "float32", replica)
        found.append(waits.found)
    assert found[0], "a step that looks at its loss waits"
    assert found[1] == []
