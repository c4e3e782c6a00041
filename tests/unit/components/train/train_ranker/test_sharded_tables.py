"""Do workers that hold a share of the rows each train what workers do that hold all, and go on in any number?

One real gloo pair trains everything that needs two processes, in turn.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.data.training_set import read_schema
from components.platform.errors import BadInputError, RankmillError
from components.rankers.base import size_of
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.embedding import shards
from components.rankers.embedding.shards import WHOLE, FetchedRows, Shard, initial_rows, sharded
from components.rankers.embedding.table import FieldEmbedding
from components.train.adapt_ranker.config import Config as AdaptConfig
from components.train.continue_ranker.config import Config as ContinueConfig
from components.train.train_ranker import checkpoints, loop, shard_files, start
from components.train.train_ranker.checkpoints import shard_name
from components.train.train_ranker.config import Checkpoints, Config, Tables
from components.train.train_ranker.counts import rows_per_value
from components.train.train_ranker.feed import open_split
from components.train.train_ranker.job import TrainingJob, read_progress, read_size
from components.train.train_ranker.loop import Replica, train
from components.train.train_ranker.losses import Loss
from components.train.train_ranker.optimiser import RankerOptimiser
from features.declaration import Declaration, FieldSpec, Position
from tests.registered import OPTIONS
from tests.worlds import write_training_set

ROOT = Path(__file__).resolve().parents[5]
SMALL_ROWS, SMALL_BATCH = 407, 54
"""325 train, in batches of 54: the last one leaves a worker without a row."""
SCORED_AT_ONCE = 20
"""41 validate: of two workers one scores once, the other twice."""
LARGE_ROWS = 12_800
"""Two passes over what trains are twenty steps of the default batch."""
CHECKPOINT_STEPS, STOP_AFTER = 4, 12
"""Seven steps are an epoch, so the newest checkpoint then lies within the second."""
RANKERS = ("adaptdhm", "din", "esmm", "fintrec", "gnolr", "lr", "onepiece")
KINDS: dict[str, dict[str, Any]] = {name: {"ranker": name} for name in RANKERS} | {
    "hashed": {"ranker": "dnn", "embedding": "hashed", "buckets": 64},
    "adagrad, drawn": {
        "ranker": "dnn", "tables": {"optimiser": "rowwise_adagrad", "mini_batch_aware": 3.0}, "weight_decay": 0.01,
    },
}  # fmt: skip

WORKER = """
import sys
from pathlib import Path
from tests.unit.components.train.train_ranker.test_sharded_tables import train_as_pair
train_as_pair(Path(sys.argv[1]), int(sys.argv[2]))
"""


class Interrupted(Exception):
    """Stands for whatever ends a process: nothing of the loop runs after it."""


def job_of(dataset: Path, directory: Path, sharded: bool, ranker: str = "esmm", **given: Any) -> TrainingJob:
    directory.mkdir(parents=True, exist_ok=True)
    options = {key: given.pop(key) for key in ("embedding", "buckets") if key in given}
    sizes = {"hidden": (16, 8)} if "hidden" in OPTIONS[ranker] else {}
    sizes |= {"dropout": 0.0} if "dropout" in OPTIONS[ranker] else {}
    tables = Tables(**given.pop("tables", {}), sharded=sharded)
    block = {"epochs": 2, "batch_size": SMALL_BATCH, "checkpoints": Checkpoints(steps=CHECKPOINT_STEPS)} | given
    config = Config(ranker=RankerConfig.of(name=ranker, **sizes, **options), tables=tables, **block)
    return TrainingJob(name="test", dataset=dataset, directory=directory, config=config)


def default_job(dataset: Path, directory: Path, sharded: bool) -> TrainingJob:
    directory.mkdir(parents=True, exist_ok=True)
    config = Config(ranker=RankerConfig.of(name="dnn"), epochs=2, tables=Tables(sharded=sharded))
    return TrainingJob(name="test", dataset=dataset, directory=directory, config=config)


@contextmanager
def stopped_after(steps: int) -> Iterator[None]:
    """Let training stop dead before step `steps` + 1."""
    taken, take_step = 0, loop.take_step

    def counted(*args: Any) -> Loss:
        nonlocal taken
        taken += 1
        if taken > steps:
            raise Interrupted
        return take_step(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "take_step", counted)
        yield


@contextmanager
def noted_sizes(file: Path) -> Iterator[None]:
    """Leave how many numbers a worker holds: of the table, of what the optimiser knows of it, and in all."""

    class Noted(RankerOptimiser):
        def __init__(self, ranker: nn.Module, *args: Any) -> None:
            super().__init__(ranker, *args)
            assert self.rows is not None
            known = sum(value.numel() for value in self.rows.state().values() if value.ndim)
            everything = sum(parameter.numel() for parameter in ranker.parameters())
            file.write_text(json.dumps({"table": self.table.numel(), "rows": known, "all": everything}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "RankerOptimiser", Noted)
        yield


def train_as_pair(folder: Path, rank: int) -> None:
    """Train everything that this file compares as one of two workers."""
    torch.set_num_threads(1)
    loop.EVALUATION_ROWS = SCORED_AT_ONCE
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    me, small = Replica(rank, 2), folder / "small"

    def wait() -> None:
        dist.barrier()

    for kind, config in KINDS.items():
        for name in ("whole", "sharded"):
            train(job_of(small, folder / "kinds" / name / kind, name == "sharded", **config), me)
    for name in ("whole", "sharded"):
        with noted_sizes(folder / f"{name}-{rank}.json"):
            train(default_job(folder / "large", folder / "default" / name, name == "sharded"), me)
    # A run that ends in its second epoch, and goes on as a pair; the one of a single worker goes on here as well.
    parts = job_of(small, folder / "stopped" / "pair", sharded=True)
    with stopped_after(STOP_AFTER):
        train(parts, me)
    wait()
    if rank == 0:
        for name in ("for one", "for two"):
            shutil.copytree(parts.directory, folder / "stopped" / name)
    wait()
    train(job_of(small, folder / "stopped" / "for two", sharded=True), me)
    train(job_of(small, folder / "stopped" / "one, for two", sharded=True), me)
    # The disk of the second worker is full.
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            patch.setattr(shard_files, "write_tensors", full_disk)
        train(job_of(small, folder / "full", sharded=True), me)
    # Every worker names the loss that is no number.
    with pytest.raises(BadInputError, match=r"training diverged: the loss is .* for like, love"):
        train(job_of(small, folder / "diverged", sharded=True, learning_rate=1e30), me)
    dist.destroy_process_group()


def full_disk(path: Path, tensors: dict[str, Tensor]) -> str:
    raise OSError(28, "No space left on device", str(path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the pair and a single worker trained."""
    folder = tmp_path_factory.mktemp("shards")
    write_training_set(folder / "small", rows=SMALL_ROWS)
    write_training_set(folder / "large", rows=LARGE_ROWS, users=2000, items=500)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with stopped_after(STOP_AFTER):
        train(job_of(folder / "small", folder / "stopped" / "one, for two", sharded=True), Replica())
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(rank)], cwd=ROOT) for rank in (0, 1)]
    for name in ("whole", "sharded"):
        train(default_job(folder / "large", folder / "alone" / name, name == "sharded"), Replica())
    train(job_of(folder / "small", folder / "alone" / "small", sharded=True), Replica())
    assert [worker.wait(200) for worker in workers] == [0, 0]
    yield folder
    torch.set_num_threads(threads)


def weights(directory: Path) -> bytes:
    return (directory / "weights.safetensors").read_bytes()


def reports(directory: Path) -> list[Any]:
    return [line.report for line in read_progress(directory)]


def assert_near(left: Path, right: Path, most: float) -> None:
    ours, theirs = (load_file(str(folder / "weights.safetensors")) for folder in (left, right))
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        torch.testing.assert_close(theirs[name], values, atol=most, rtol=0, msg=lambda text, at=name: f"{at}: {text}")


@pytest.mark.parametrize("kind", KINDS)
def test_they_train_what_workers_train_that_hold_every_row(kind: str, trained: Path) -> None:
    """To the last bit of weights, file and report, whatever a ranker reads and however its rows learn."""
    whole, shared = (trained / "kinds" / name / kind for name in ("whole", "sharded"))
    assert weights(whole) == weights(shared)
    assert reports(whole) == reports(shared)
    assert read_size(whole) == read_size(shared)


def test_after_twenty_steps_they_are_where_one_worker_is(trained: Path) -> None:
    alone, pair = trained / "alone" / "whole", trained / "default" / "sharded"
    assert_near(alone, pair, 1e-6)
    for one, two in zip(reports(alone), reports(pair), strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, abs=1e-6)
        assert two.metrics == pytest.approx(one.metrics, abs=1e-6)


def test_each_holds_half_of_the_rows_and_of_what_the_optimiser_knows_of_them(trained: Path) -> None:
    whole, first, second = (
        json.loads((trained / file).read_text()) for file in ("whole-0.json", "sharded-0.json", "sharded-1.json")
    )
    width = 16
    for what, each in (("table", width), ("rows", width + 1)):
        assert first[what] + second[what] == whole[what]
        assert 0 <= first[what] - second[what] <= each
    towers = whole["all"] - whole["table"]
    assert first["all"] - first["table"] == second["all"] - second["table"] == towers


def test_a_single_worker_makes_the_bytes_of_today(trained: Path) -> None:
    for what in (weights, reports):
        assert what(trained / "alone" / "whole") == what(trained / "alone" / "sharded")


def test_a_checkpoint_has_a_file_per_worker(trained: Path) -> None:
    newest = max((trained / "stopped" / "pair" / checkpoints.FOLDER).iterdir())
    files = {path.name for path in newest.iterdir()}
    names = [shard_name(rank, 2) for rank in (0, 1)]
    assert files == {checkpoints.STATE, checkpoints.POSITION, *names}
    tables = [load_file(str(newest / name))["ranker.embedding.weight"] for name in names]
    whole = load_file(str(trained / "alone" / "small" / "weights.safetensors"))["embedding.weight"]
    assert sum(len(table) for table in tables) == len(whole)
    assert "ranker.embedding.weight" not in load_file(str(newest / checkpoints.STATE))


def test_a_pair_goes_on_as_if_nothing_had_happened(trained: Path) -> None:
    whole, parts = trained / "kinds" / "sharded" / "esmm", trained / "stopped" / "for two"
    assert weights(whole) == weights(parts)
    assert reports(whole) == reports(parts)


def test_one_worker_goes_on_where_two_were(trained: Path) -> None:
    job = job_of(trained / "small", trained / "stopped" / "for one", sharded=True)
    train(job, Replica())
    assert [line.workers for line in read_progress(job.directory)] == [2, 1]
    assert_near(trained / "alone" / "small", job.directory, 1e-6)


def test_two_workers_go_on_where_one_was(trained: Path) -> None:
    parts = trained / "stopped" / "one, for two"
    assert [line.workers for line in read_progress(parts)] == [1, 2]
    assert_near(trained / "alone" / "small", parts, 1e-6)


def test_a_full_disk_of_one_worker_costs_checkpoints_and_not_the_run(trained: Path) -> None:
    assert weights(trained / "full") == weights(trained / "kinds" / "sharded" / "esmm")
    told = [str(line.warning) for line in read_progress(trained / "full")]
    assert all("worker 2 of 2: [Errno 28] No space left" in text and "training goes on" in text for text in told)
    assert list((trained / "full" / checkpoints.FOLDER).iterdir()) == [], "no half checkpoint is left"


def test_a_damaged_share_of_a_checkpoint_is_told_and_the_one_before_serves(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(trained / "stopped" / "pair", folder)
    newest = max((folder / checkpoints.FOLDER).iterdir())
    file = newest / shard_name(1, 2)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert newest.name == "000002-000000004"
    found = checkpoints.newest(folder)
    assert found is not None and found[1].parent < newest
    assert f"checkpoint {newest} is damaged and left out" in caplog.text


@given(rows=st.integers(0, 300), width=st.integers(1, 7), world=st.integers(1, 5), at_once=st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_workers_draw_one_table(rows: int, width: int, world: int, at_once: int) -> None:
    torch.manual_seed(3)
    whole = initial_rows(rows, width, 0.1, WHOLE)
    after = torch.rand(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_DRAWN_AT_ONCE", at_once)
        for rank in range(world):
            torch.manual_seed(3)
            shard = Shard(rank, world)
            assert torch.equal(initial_rows(rows, width, 0.1, shard), whole[rank::world])
            assert torch.equal(torch.rand(1), after), "what is drawn after the table is another"
            assert shard.held(rows) == len(whole[rank::world])


@given(rows=st.integers(0, 50), before=st.integers(1, 6), now=st.integers(1, 6), at_once=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_any_number_of_workers_finds_its_rows(
    rows: int, before: int, now: int, at_once: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    whole = {"table": torch.randn(rows, 3), "squares": torch.randn(rows)}
    for rank in range(before):
        mine = {name: values[rank::before].contiguous() for name, values in whole.items()}
        save_file(mine, str(folder / shard_name(rank, before)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_files, "_NUMBERS_AT_ONCE", at_once)
        for rank in range(now):
            found = {name: torch.full_like(values[rank::now], torch.nan) for name, values in whole.items()}
            shard_files.load_rows(folder, before, found, Shard(rank, now))
            assert all(torch.equal(found[name], values[rank::now]) for name, values in whole.items())


def test_rows_are_counted_where_they_lie(training_set_dir: Path) -> None:
    schema = read_schema(training_set_dir)
    split = open_split(training_set_dir, "train", schema)
    whole = rows_per_value(split, build_ranker(RankerConfig.of("dnn"), schema))
    for rank in range(3):
        with sharded(Shard(rank, 3)):
            ranker = build_ranker(RankerConfig.of("dnn"), schema)
        assert torch.equal(rows_per_value(split, ranker), whole[rank::3])
        assert size_of(ranker).embedding == 16 * len(whole[rank::3])


def test_effects_of_places_stay_whole(training_set_dir: Path) -> None:
    schema = read_schema(training_set_dir)
    roles = Declaration(feedback=("like",), position=Position(column="place", effect="additive"))
    place = FieldSpec(name="place", kind="categorical", size=9, table="place")
    placed = schema.model_copy(update={"declaration": roles, "fields": (*schema.fields, place)})
    with sharded(Shard(1, 2)):
        ranker: Any = build_ranker(RankerConfig.of("dnn"), placed)
    assert ranker.place.shard == WHOLE and ranker.embedding.shard == Shard(1, 2)
    start._check_shards(ranker, "dnn", Shard(1, 2))


def test_what_cannot_be_shared_out_is_refused(training_set_dir: Path) -> None:
    with pytest.raises(ValidationError, match="tables with optimiser 'adam' are not sharded"):
        Tables(optimiser="adam", sharded=True)
    with pytest.raises(ValidationError, match=r"holds the whole ranker that is adapted: leave tables\.sharded out"):
        AdaptConfig(domain="x", tables=Tables(sharded=True))
    with pytest.raises(ValidationError, match=r"holds the whole ranker that is continued: leave tables\.sharded out"):
        ContinueConfig(ranker=RankerConfig.of("dnn"), tables=Tables(sharded=True))
    assert "sharded" not in Tables().model_dump(), "the default keeps its cache keys"
    schema = read_schema(training_set_dir)
    with sharded(Shard(0, 2)):
        ranker = build_ranker(RankerConfig.of("dnn"), schema)
        ranker.second = FieldEmbedding(schema.fields, 4)
    with pytest.raises(BadInputError, match="ranker 'mine' has rows elsewhere than in its one table"):
        start._check_shards(ranker, "mine", Shard(0, 2))


def test_a_row_that_was_not_fetched_is_no_other_row() -> None:
    rows = FetchedRows(torch.tensor([2, 5, 9]), torch.zeros(3, 1))
    assert rows.places(torch.tensor([[9, 2], [5, 5]])).tolist() == [[2, 0], [1, 1]]
    for wanted in (3, 10):
        with pytest.raises(RankmillError, match="rows of its table that are none of its batch's"):
            rows.places(torch.tensor([wanted]))
