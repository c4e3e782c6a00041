"""How is the next batch ready when a step ends? A thread gathers it while the one before trains."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from components.data.training_set import EncodedSplit
from components.train.train_ranker.batches import features_at, labels_at
from components.train.train_ranker.order import Window, share, shuffled, windows
from features.declaration import UNKNOWN

AHEAD = 2
"""Batches that may wait: one is enough for a steady reader, the second covers a change of window."""


@dataclass(frozen=True)
class Batch:
    """This worker's part of one step.

    Attributes:
        step: number of the step in the epoch, from 1.
        rows: rows of the step over all workers.
        mine: of which this worker has so many; 0 when there are more workers than rows.
        features: by field, on the device; empty when there is no row.
        labels: by feedback, on the device.
    """

    step: int
    rows: int
    mine: int
    features: dict[str, Tensor]
    labels: dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What an epoch reads.

    Attributes:
        batch: rows of a step over all workers.
        seed: of the run.
        in_memory: most rows of a window.
        rank: this worker.
        world: workers.
        device: where batches go.
        unknown: share of ids shown as unknown.
        ids: fields whose ids are.
    """

    batch: int
    seed: int
    in_memory: int
    rank: int
    world: int
    device: torch.device
    unknown: float = 0.0
    ids: tuple[str, ...] = ()


@contextmanager
def batches(split: EncodedSplit, plan: Plan, epoch: int, after: int = 0) -> Iterator[Iterator[Batch]]:
    """Yield the batches of an epoch, prepared by a thread that ends with the block.

    Args:
        split: training rows.
        plan: what to read.
        epoch: from 1.
        after: steps of the epoch that were taken before; they are not read.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            _fill(split, plan, epoch, after, put)
            put(None)
        except BaseException as error:  # handed to the reader, who raises it
            put(error)

    def drain() -> Iterator[Batch]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=fill, name="rankmill-feed", daemon=True)
    thread.start()
    try:
        yield drain()
    finally:
        stopped.set()
        thread.join()


def _fill(split: EncodedSplit, plan: Plan, epoch: int, after: int, put: Callable[[Batch], bool]) -> None:
    for window in windows(split.rows, plan.batch, plan.seed, epoch, plan.in_memory):
        if window.first_step + window.steps <= after:
            continue
        rows = _in_memory(split, window)
        order = shuffled(window, plan.seed, epoch)
        for number in range(max(0, after - window.first_step), window.steps):
            batch = order[number * window.batch : (number + 1) * window.batch]
            part = share(len(batch), plan.rank, plan.world)
            mine = batch[part]
            step = window.first_step + number + 1
            features = features_at(rows, mine, plan.device) if len(mine) else {}
            labels = labels_at(rows, mine, plan.device) if len(mine) else {}
            if len(mine) and plan.unknown:
                _forget(features, plan, (epoch, step), len(batch), part)
            if not put(Batch(step, len(batch), len(mine), features, labels)):
                return


def _forget(features: dict[str, Tensor], plan: Plan, at: tuple[int, int], rows: int, part: slice) -> None:
    """Show some ids as unknown, in place, so that the rows that stand for unknown ids learn what is left without one.

    Which ones follows from seed, epoch and step alone: they are drawn for the whole batch, of which each worker takes
    its part, and a draw costs what it changes.

    Args:
        features: this worker's part of a batch.
        plan: which fields, how many ids, and the seed.
        at: epoch and step.
        rows: of the batch over all workers.
        part: this worker's rows of it.
    """
    draw = np.random.default_rng([plan.seed % 2**63, *at])
    for name in plan.ids:
        values = features[name].view(-1)
        wide = len(values) // (part.stop - part.start)
        chosen = draw.integers(rows * wide, size=draw.binomial(rows * wide, plan.unknown)) - part.start * wide
        mine = torch.from_numpy(chosen[(chosen >= 0) & (chosen < len(values))]).to(plan.device)
        values[mine] = values[mine].clamp(max=UNKNOWN)  # padding stays padding


def _in_memory(split: EncodedSplit, window: Window) -> EncodedSplit:
    """Return a window's rows: the mapped file itself where it is the whole split, otherwise copies of its blocks."""
    if window.rows == split.rows:
        return split

    def copied(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> np.ndarray:
        return np.concatenate([values[start:end] for start, end in window.blocks])

    rows = EncodedSplit(
        features={name: copied(values) for name, values in split.features.items()},
        labels={name: copied(values) for name, values in split.labels.items()},
        domain=copied(split.domain),
        user=split.user[:0],
    )
    split.let_go()
    return rows
