"""Does every row reach the steps of an epoch once, in an order of its own, from memory that stays bounded?"""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.training_set import EncodedSplit
from components.train.train_ranker import feed
from components.train.train_ranker.feed import Batch, Plan, batches, shuffled, windows


def split_of(rows: int) -> EncodedSplit:
    numbers = np.arange(rows)
    return EncodedSplit({"row": numbers}, {"like": (numbers % 2).astype(np.float32)}, numbers, numbers)


def plan(batch: int, in_memory: int, rank: int = 0, world: int = 1, seed: int = 0) -> Plan:
    return Plan(batch, seed, in_memory, rank, world, torch.device("cpu"))


def read(split: EncodedSplit, how: Plan, epoch: int = 1, after: int = 0) -> list[Batch]:
    with batches(split, how, epoch, after) as ready:
        return list(ready)


def rows_of(found: list[Batch]) -> list[int]:
    return [int(row) for batch in found if batch.mine for row in batch.features["row"]]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BLOCK", 16)


@given(
    rows=st.integers(1, 300),
    batch=st.integers(1, 50),
    in_memory=st.integers(1, 320),
    world=st.integers(1, 3),
    epoch=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_row_reaches_the_steps_once_whatever_fits_in_memory(
    rows: int, batch: int, in_memory: int, world: int, epoch: int
) -> None:
    split = split_of(rows)
    by_worker = [read(split, plan(batch, in_memory, rank, world), epoch) for rank in range(world)]
    assert sorted(row for found in by_worker for row in rows_of(found)) == list(range(rows))
    for found in by_worker:
        assert [b.step for b in found] == list(range(1, len(found) + 1))
        assert all(b.rows <= batch for b in found)
    for parts in zip(*by_worker, strict=True):
        assert sum(part.mine for part in parts) == parts[0].rows
    alone = read(split, plan(batch, in_memory), epoch)
    together = [[row for part in parts for row in rows_of([part])] for parts in zip(*by_worker, strict=True)]
    assert together == [rows_of([b]) for b in alone], "the number of workers does not change the order"


@pytest.mark.parametrize("in_memory", [1000, 40])
@pytest.mark.parametrize("after", [0, 1, 7, 24, 25])
def test_it_goes_on_in_the_middle_of_an_epoch(in_memory: int, after: int) -> None:
    split, how = split_of(200), plan(8, in_memory)
    whole, rest = read(split, how), read(split, how, after=after)
    assert [b.step for b in rest] == [b.step for b in whole][after:]
    assert rows_of(rest) == rows_of(whole[after:])
    assert torch.equal(torch.cat([b.labels["like"] for b in whole]), torch.tensor(rows_of(whole)) % 2)


@pytest.mark.parametrize("in_memory", [1000, 64])
def test_epochs_and_seeds_have_orders_of_their_own(in_memory: int) -> None:
    split = split_of(200)
    orders = [rows_of(read(split, plan(8, in_memory, seed=seed), epoch)) for seed in (0, 1) for epoch in (1, 2)]
    assert len({tuple(found) for found in orders}) == 4
    assert rows_of(read(split, plan(8, in_memory), 1)) == orders[0]


def test_a_window_mixes_rows_from_all_over_the_split() -> None:
    """The first batches hold rows of the whole split, not its beginning, and no block stays together."""
    found = rows_of(read(split_of(1600), plan(16, 320)))
    first = np.array(found[:320])
    assert first.max() - first.min() > 1200
    assert np.abs(np.diff(found)).mean() > 100
    assert max(window.rows for window in windows(1600, 16, 0, 1, 320)) <= 320


def test_the_order_within_a_window_is_a_permutation() -> None:
    for window in windows(200, 16, 3, 2, 64):
        assert sorted(shuffled(window, 3, 2)) == list(range(window.rows))


def test_an_error_of_the_thread_is_the_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(feed, "_in_memory", fails)
    with pytest.raises(OSError, match="disk on fire"):
        read(split_of(10), plan(4, 100))


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    with batches(split_of(500), plan(2, 1000), epoch=1) as ready:
        next(ready)
    assert threading.active_count() == before
