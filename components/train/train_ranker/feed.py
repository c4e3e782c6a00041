"""Which rows does a step learn from, and how are they ready when the one before ends?

Rows are shuffled whole, or block by block where they are more than fit in memory; a thread gathers the next batches
from memory-mapped arrays, by index and without a loop over rows, while those before train.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.training_set import EncodedSplit, SplitName, padded_at, read_encoded
from components.platform.errors import BadInputError
from components.train.train_ranker.transfer import packed_to
from features.declaration import UNKNOWN, RankerSchema, offsets_name, weight_name
from features.encoding.slices import Slices, apart, at_places_of, joined

Indices = NDArray[np.int64]
BLOCK = 65_536
"""Rows that are read together: long enough that a disk reads them at full speed."""
AHEAD = 2
"""Batches that may wait: one is enough for a steady reader, the second covers a change of window."""
CELLS = 2**21
"""Values that are gathered together, padding counted: some batches, so that the many short calls of a gathering, which
hold up a step, are made once for all of them."""


@dataclass(frozen=True)
class Window:
    """Rows that are in memory together, and the steps that train on them."""

    blocks: tuple[tuple[int, int], ...]
    """Half-open ranges of rows, in the order in which they are read."""
    first_step: int
    """Number of its first step in the epoch, from 0."""
    rows: int
    batch: int
    """Rows of a step; the last may have fewer."""

    @property
    def steps(self) -> int:
        """How many steps train on the window."""
        return -(-self.rows // self.batch)


def windows(rows: int, batch: int, seed: int, epoch: int, in_memory: int) -> list[Window]:
    """Return the windows of an epoch: the same on every worker and for any number of workers.

    A split that fits is one window of one block. A larger one is cut into blocks, which are shuffled and then dealt
    to windows, so that a window holds rows from all over the split.
    """
    if rows <= in_memory:
        return [Window(((0, rows),), 0, rows, batch)]
    size = min(BLOCK, in_memory)
    blocks = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    order = np.random.default_rng([seed, epoch, 1]).permutation(len(blocks))
    each = -(-in_memory // size)
    made: list[Window] = []
    for first in range(0, len(blocks), each):
        chosen = tuple(blocks[i] for i in order[first : first + each])
        before = made[-1].first_step + made[-1].steps if made else 0
        made.append(Window(chosen, before, sum(end - start for start, end in chosen), batch))
    return made


def shuffled(window: Window, seed: int, epoch: int) -> Indices:
    """Return the order of a window's rows, int64 ``[rows]``, counted within the window."""
    entropy = [seed, epoch] if window.first_step == 0 and len(window.blocks) == 1 else [seed, epoch, window.first_step]
    return np.random.default_rng(entropy).permutation(window.rows).astype(np.int64)


def share(rows: int, rank: int, world: int) -> slice:
    """Return which of `rows` consecutive rows belong to `rank`; shares differ by at most one row."""
    return slice(rows * rank // world, rows * (rank + 1) // world)


def open_split(dataset: Path, split: SplitName, schema: RankerSchema) -> EncodedSplit:
    """Return one split, memory-mapped.

    Raises:
        BadInputError: an index lies outside its embedding table, or a label is not 0 or 1.
    """
    rows = read_encoded(dataset, split, schema)
    for field in schema.fields:
        found = rows.features[field.name]
        indices = found if isinstance(found, np.ndarray) else found.values
        if not field.embedded or not indices.size:
            continue
        least, most = int(indices.min()), int(indices.max())
        rows.let_go()
        if least < 0 or most >= field.size:
            raise BadInputError(
                f"field {field.name!r} of the {split} split holds index {least if least < 0 else most}, its table has "
                f"{field.size} rows: build the training set again"
            )
    for name, values in rows.labels.items():
        if wrong := int(np.count_nonzero((values != 0) & (values != 1))):
            raise BadInputError(
                f"label {name!r} of {wrong} rows of the {split} split is not 0 or 1: build the training set again"
            )
    return rows


def features_at(
    rows: EncodedSplit, at: Indices | slice, device: torch.device, jagged: bool = False
) -> dict[str, Tensor]:
    """Return the inputs of the rows `at`: a copy, on `device`; with `jagged`, lists without padding.

    See `components.rankers.base.RankerModule.forward`.
    """
    [features] = _there([_features(rows, at, jagged)], device)
    return features


def _features(rows: EncodedSplit, at: Indices | slice, jagged: bool) -> dict[str, Tensor]:
    """Return the inputs of the rows `at` in memory."""
    if not jagged:
        return {name: torch.from_numpy(padded_at(values, at)) for name, values in rows.features.items()}
    made: dict[str, Tensor] = {}
    bounds: dict[tuple[int, int], tuple[Indices, Indices, Tensor]] = {}
    for name, values in rows.features.items():
        if isinstance(values, np.ndarray):
            made[name] = torch.from_numpy(padded_at(values, at))
            continue
        taken, stream = values[at], (id(values.starts), id(values.counts))
        if stream not in bounds:  # attributes of the same events lie at the same places
            offsets = taken.offsets()
            bounds[stream] = offsets, taken.places(offsets), torch.from_numpy(offsets)
        _, places, made[offsets_name(name)] = bounds[stream]
        made[name] = torch.from_numpy(taken.read(places))
    return made


def labels_at(rows: EncodedSplit, at: Indices | slice, device: torch.device) -> dict[str, Tensor]:
    """Return the labels of the rows `at`, and their weights: a copy, on `device`."""
    [labels] = _there([_labels(rows, at)], device)
    return labels


def _labels(rows: EncodedSplit, at: Indices | slice) -> dict[str, Tensor]:
    """Return the labels of the rows `at`, and their weights, in memory."""
    weights = {weight_name(name): values for name, values in rows.weights.items()}
    return {name: torch.from_numpy(padded_at(values, at)) for name, values in (rows.labels | weights).items()}


def _there(parts: list[dict[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    """Return parts of a batch on `device`, where the CPU has them already."""
    return parts if device.type == "cpu" else packed_to(parts, device)


@dataclass(frozen=True)
class Batch:
    """This worker's part of one step."""

    step: int
    """Number of the step in the epoch, from 1."""
    rows: int
    """Rows of the step over all workers."""
    mine: int
    """Of which this worker has so many; 0 when there are more workers than rows."""
    features: dict[str, Tensor]
    """By field, on the device; empty when there is no row."""
    labels: dict[str, Tensor]
    """By feedback, and by `weight_name` where it has weights, on the device."""


@dataclass(frozen=True)
class Plan:
    """What an epoch reads."""

    batch: int
    """Rows of a step over all workers."""
    seed: int
    in_memory: int
    """Most rows of a window."""
    rank: int
    world: int
    device: torch.device
    unknown: float = 0.0
    """Share of ids shown as unknown."""
    ids: tuple[str, ...] = ()
    """Fields whose ids are."""
    jagged: bool = False
    """Whether lists come without padding."""


@contextmanager
def batches(split: EncodedSplit, plan: Plan, epoch: int, after: int = 0) -> Iterator[Iterator[Batch]]:
    """Yield the batches of an epoch, prepared by a thread that ends with the block.

    Steps up to `after` were taken before and are not read.
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
        most = max(1, CELLS // (_width(rows) * plan.batch))
        start, together = max(0, after - window.first_step), 1
        while start < window.steps:
            end = min(start + together, window.steps)
            for batch in _gathered(rows, order, plan, epoch, range(start, end), window):
                if not put(batch):
                    return
            start, together = end, min(2 * together, most)  # few at first: nobody learns before they are there


def _gathered(
    rows: EncodedSplit, order: Indices, plan: Plan, epoch: int, numbers: range, window: Window
) -> Iterator[Batch]:
    """Yield some batches of a window, whose rows are gathered together."""
    totals = [min(window.batch, window.rows - number * window.batch) for number in numbers]
    parts = [share(total, plan.rank, plan.world) for total in totals]
    sizes = [part.stop - part.start for part in parts]
    firsts = [number * window.batch for number in numbers]
    mine = np.concatenate([order[at + part.start : at + part.stop] for at, part in zip(firsts, parts, strict=True)])
    features = _cut(_features(rows, mine, plan.jagged), sizes)
    labels = _cut(_labels(rows, mine), sizes)
    for number, total, part, inputs, answers in zip(numbers, totals, parts, features, labels, strict=True):
        step, size = window.first_step + number + 1, part.stop - part.start
        if not size:
            yield Batch(step, total, 0, {}, {})
            continue
        if plan.unknown:
            _forget(inputs, plan, (epoch, step), total, part, rows)
        yield Batch(step, total, size, *_there([inputs, answers], plan.device))


def _width(rows: EncodedSplit) -> int:
    """Return how many values a row has at most."""
    return sum(
        values.length if isinstance(values, Slices) else int(np.prod(values.shape[1:], dtype=int))
        for values in rows.features.values()
    )


def _cut(values: dict[str, Tensor], sizes: list[int]) -> list[dict[str, Tensor]]:
    """Return views of consecutive rows, so many each; lists without padding are cut where those of their rows end."""
    ends = np.cumsum([0, *sizes])
    streams: dict[int, tuple[list[int], list[Tensor]]] = {}
    for name in values:
        offsets = values.get(offsets_name(name))
        if offsets is not None and id(offsets) not in streams:
            own = [offsets[first : last + 1] - offsets[first] for first, last in pairwise(ends.tolist())]
            streams[id(offsets)] = offsets[ends].diff().tolist(), own
    made: list[dict[str, Tensor]] = [{} for _ in sizes]
    for name, each in values.items():
        offsets = values.get(offsets_name(name))
        if id(each) in streams:
            pieces: Sequence[Tensor] = streams[id(each)][1]
        else:
            pieces = each.split(sizes if offsets is None else streams[id(offsets)][0])
        for batch, piece in zip(made, pieces, strict=True):
            batch[name] = piece
    return made


def _forget(
    features: dict[str, Tensor], plan: Plan, at: tuple[int, int], total: int, part: slice, rows: EncodedSplit
) -> None:
    """Show some ids as unknown, in place, so that the rows that stand for unknown ids learn what is left without one.

    Which ones follows from seed, epoch and step alone: they are drawn for the whole batch, of which each worker takes
    its part, and a draw costs what it changes. Places of padding are drawn too, so that what is drawn does not depend
    on how long histories are.

    Args:
        features: this worker's part of a batch, in memory.
        plan: which fields, how many ids, and the seed.
        at: epoch and step.
        total: rows of the batch over all workers.
        part: this worker's rows of it.
        rows: where the batch was read from.
    """
    draw = np.random.default_rng([plan.seed % 2**63, *at])
    for name in plan.ids:
        values, lists = features[name].view(-1), rows.features[name]
        wide = lists.length if isinstance(lists, Slices) else len(values) // (part.stop - part.start)
        chosen = draw.integers(total * wide, size=draw.binomial(total * wide, plan.unknown)) - part.start * wide
        mine = torch.from_numpy(chosen[(chosen >= 0) & (chosen < (part.stop - part.start) * wide)])
        if (offsets := features.get(offsets_name(name))) is not None:
            row, place = mine // wide, mine % wide
            first = offsets[row]
            mine = (first + place)[place < offsets[row + 1] - first]
        values[mine] = values[mine].clamp(max=UNKNOWN)  # padding stays padding


def _in_memory(split: EncodedSplit, window: Window) -> EncodedSplit:
    """Return a window's rows: the mapped file itself where it is the whole split, otherwise copies of its blocks."""
    if window.rows == split.rows:
        return split

    def copied(values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([values[start:end] for start, end in window.blocks])

    arrays = {name: copied(values) for name, values in split.features.items() if isinstance(values, np.ndarray)}
    lists = {name: values for name, values in split.features.items() if isinstance(values, Slices)}
    rows = EncodedSplit(
        features={**arrays, **_lists(lists, window)},
        labels={name: copied(values) for name, values in split.labels.items()},
        domain=copied(split.domain),
        user=split.user[:0],
        weights={name: copied(values) for name, values in split.weights.items()},
    )
    split.let_go()
    return rows


def _lists(fields: Mapping[str, Slices], window: Window) -> dict[str, Slices]:
    """Return the lists of a window's rows: copies, or where rows share values, which are then fewer, views of them."""
    made: dict[str, Slices] = {}
    bounds: dict[tuple[int, int], Slices] = {}
    for name, values in fields.items():
        rows = joined(values[slice(*block)] for block in window.blocks)
        if len(values.values) >= values.counts.sum(dtype=np.int64):
            rows = apart(rows)
        stream = bounds.setdefault((id(values.starts), id(values.counts)), rows)
        made[name] = at_places_of(stream, rows)
    return made
