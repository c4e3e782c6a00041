"""Does a step without padding read what a padded one does, from shared logs and lists of their own, in any window?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from components.data.training_set import EncodedSplit, read_encoded, write_encoded
from components.train.train_ranker import feed
from components.train.train_ranker.feed import Batch, Plan, batches, features_at
from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema, offsets_name
from features.encoding.slices import Slices, apart

ROWS, LENGTH = 300, 5
LISTS = ("liked", "recent", "times")


def split(shared: bool) -> EncodedSplit:
    """Rows of ten users with the newest events of one log each, newest first, which they share or have copies of."""
    g = np.random.default_rng(0)
    events, user = 40, np.arange(ROWS) % 10
    starts = user * events + g.integers(0, events - LENGTH, ROWS)
    counts = g.integers(0, LENGTH + 1, ROWS).astype(np.int32)
    log = np.tile(np.arange(events, 0, -1) * 1_000_000, 10)
    requests = np.full(ROWS, 50_000_000)
    lists = {
        "recent": Slices(g.integers(FIRST, 200, 10 * events).astype(np.uint8), starts, counts, LENGTH),
        "liked": Slices(g.integers(0, 4, 10 * events).astype(np.uint8), starts, counts, LENGTH),
        "times": Slices(log, starts, counts, LENGTH, requests),
    }
    if not shared:
        own = {name: apart(each) for name, each in lists.items()}
        lists = {n: replace(each, starts=own["times"].starts, counts=own["times"].counts) for n, each in own.items()}
    labels = {"like": (user % 2).astype(np.float32)}
    return EncodedSplit({"user_id": user.astype(np.uint8), **lists}, labels, user, user)


def read(rows: EncodedSplit, in_memory: int, jagged: bool, unknown: float = 0.0, world: int = 1) -> list[list[Batch]]:
    found = []
    for rank in range(world):
        plan = Plan(32, 0, in_memory, rank, world, torch.device("cpu"), unknown, ("recent", "user_id"), jagged)
        with batches(rows, plan, 1) as ready:
            found.append(list(ready))
    return found


def padded(batch: Batch, name: str) -> torch.Tensor:
    offsets = batch.features[offsets_name(name)]
    fill = -1.0 if name == "times" else 0
    made = torch.full((len(offsets) - 1, LENGTH), fill, dtype=batch.features[name].dtype)
    for row, (first, last) in enumerate(pairwise(offsets)):
        made[row, : last - first] = batch.features[name][first:last]
    return made


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BLOCK", 16)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("in_memory", [1000, 64])
@pytest.mark.parametrize(("unknown", "world"), [(0.0, 1), (0.2, 1), (0.2, 2)])
def test_steps_hold_the_same_events_with_and_without_padding(
    shared: bool, in_memory: int, unknown: float, world: int
) -> None:
    """Also which ids are shown as unknown is the same, whatever the number of workers."""
    expected = read(split(True), 1000 if in_memory == 1000 else in_memory, False, unknown)[0]
    workers = read(split(shared), in_memory, True, unknown, world)
    for whole, *parts in zip(expected, *workers, strict=True):
        for name in LISTS:
            found = torch.cat([padded(part, name) for part in parts if part.mine])
            assert torch.equal(found, whole.features[name]), name
        assert torch.equal(
            torch.cat([part.features["user_id"] for part in parts if part.mine]), whole.features["user_id"]
        )
    total = sum(int((batch.features["recent"] == 1).sum()) for batch in expected)
    assert (total > 20) == bool(unknown)


@pytest.mark.parametrize("jagged", [True, False])
@pytest.mark.parametrize("world", [1, 2, 40])
def test_batches_that_are_gathered_together_are_those_gathered_one_by_one(
    jagged: bool, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = read(split(True), 1000, jagged, 0.2, world)
    monkeypatch.setattr(feed, "CELLS", 1)
    alone = read(split(True), 1000, jagged, 0.2, world)
    for many, one in zip(together, alone, strict=True):
        assert len(many) == len(one) == 10
        for found, expected in zip(many, one, strict=True):
            assert (found.step, found.rows, found.mine) == (expected.step, expected.rows, expected.mine)
            assert list(found.features) == list(expected.features) and list(found.labels) == list(expected.labels)
            for name, values in (expected.features | expected.labels).items():
                assert torch.equal((found.features | found.labels)[name], values), name
            bounds = {id(found.features[offsets_name(name)]) for name in LISTS if jagged and found.mine}
            assert len(bounds) == (jagged and found.mine > 0), "a stream's fields share one tensor of bounds"


def test_attributes_of_the_same_events_share_one_tensor_of_bounds() -> None:
    features = features_at(split(True), np.arange(7), torch.device("cpu"), jagged=True)
    assert len({id(features[offsets_name(name)]) for name in LISTS}) == 1
    assert features["recent"].dtype == torch.int64 and features["times"].dtype == torch.float32


@pytest.mark.parametrize("shared", [True, False])
def test_written_and_read_back_they_are_the_same_and_what_is_shared_is_written_once(
    shared: bool, tmp_path: object
) -> None:

    folder, rows = Path(str(tmp_path)), split(shared)
    write_encoded(folder / "encoded" / "train.arrow", rows)
    fields = (
        FieldSpec(name="liked", kind="sequence", size=4, length=LENGTH, timed_by="times"),
        FieldSpec(name="recent", kind="sequence", size=200, length=LENGTH, timed_by="times"),
        FieldSpec(name="times", kind="elapsed", length=LENGTH),
        FieldSpec(name="user_id", kind="categorical", size=10),
    )
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=fields, base_rates={"like": 0.5})
    again = read_encoded(tmp_path, "train", schema)
    for name, values in rows.padded().items():
        np.testing.assert_array_equal(again.padded()[name], values)
    recent, times = again.features["recent"], again.features["times"]
    assert isinstance(recent, Slices) and isinstance(times, Slices)
    assert recent.starts is times.starts and recent.values.dtype == np.uint8
    assert len(recent.values) == (400 if shared else int(recent.counts.sum()))
