"""What does an error memory know since its last refresh? Its base, and a sketch for every five minutes since.

Sums are multiples of 1/GRID, so base and slots merged are what one replay over all their rows gives, to the bit, in
whatever order and pieces they came. A base that forgets (ρ below 1) has forgotten at the ends of its own slots; rows
since then count in full, as if they had come in its last slot, and equal a replay of that up to rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import reduce
from typing import Any

import numpy as np

from registry.memory.error_memory import Memory
from registry.memory.prequential import EPOCH
from registry.memory.sketch import Sketch

Array = np.ndarray[Any, Any]
MICROSECOND = timedelta(microseconds=1)
SLOT = timedelta(minutes=5) // MICROSECOND
"""Length of a slot in microseconds; slots begin at whole multiples of it since 1970 UTC."""
ROOM = 256 << 20
"""Bytes that single slots may take; older ones are added up into one."""


@dataclass(frozen=True)
class ClosedRows:
    """Answered rows whose time for feedback is over: positives and negatives of the same age."""

    at: Array
    """int64 microseconds since 1970 UTC ``[N]``, when they were answered."""
    times: Array
    """int64 microseconds ``[N]``, times of the requests, which a base's `covers` is of."""
    requests: Array
    """uint64 ``[N]``, equal for rows of one question."""
    keys: Array
    """float64 ``[N, width]``."""
    labels: Mapping[str, Array]
    """By feedback: 0 or 1, ``[N]``."""
    base: Mapping[str, Array]
    """By feedback: probability before the error memory, ``[N]``."""
    answered: Mapping[str, Array]
    """By feedback: probability as served, ``[N]``."""
    corrected: Array
    """bool ``[N]``, whether this base memory was a part of the answer."""

    def __len__(self) -> int:
        return len(self.at)

    @property
    def slots(self) -> Array:
        """int64 ``[N]``, number of the slot of each row."""
        return np.asarray(self.at // SLOT)

    def where(self, chosen: Array) -> ClosedRows:
        """Return some rows, by a mask or by their places."""
        return ClosedRows(
            at=self.at[chosen],
            times=self.times[chosen],
            requests=self.requests[chosen],
            keys=self.keys[chosen],
            labels={task: values[chosen] for task, values in self.labels.items()},
            base={task: values[chosen] for task, values in self.base.items()},
            answered={task: values[chosen] for task, values in self.answered.items()},
            corrected=self.corrected[chosen],
        )


@dataclass(frozen=True)
class Slot:
    """The rows that were answered in one span of time."""

    sketch: Sketch
    first: int
    """Time of the earliest request, microseconds."""
    last: int
    """Time of the latest one."""

    def merged(self, other: Slot) -> Slot:
        """Return both."""
        sketch = self.sketch.merged(other.sketch)
        return Slot(sketch, min(self.first, other.first), max(self.last, other.last))


class LiveMemory:
    """A base memory and the slots since. One thread writes; a `Memory` that was given out never changes."""

    def __init__(self, base: Memory) -> None:
        """Begin with a base whose store is a sketch, and nothing since."""
        self.base, self._sketch = base, sketch_of(base)
        self.since = (base.header.covers.end - EPOCH) // MICROSECOND
        """First moment that the base does not cover, microseconds."""
        self._held = max(1, ROOM // sum(sums.nbytes for sums in self._sketch.tensors().values()))
        self._slots: dict[int, Slot] = {}
        self._older: Slot | None = None
        self._folded: set[int] = set()
        self._total: Sketch | None = None
        self.changes = 0
        """How often it was changed."""

    @property
    def count(self) -> int:
        """How many slots since the base hold a row."""
        return len(self._slots) + len(self._folded)

    @property
    def numbers(self) -> set[int]:
        """Numbers of the slots that can be told apart."""
        return {*self._slots}

    def write(self, rows: ClosedRows) -> None:
        """Add rows; those of requests that the base covers are left out."""
        rows = rows.where(rows.times >= self.since)
        self.changes += len(rows) > 0
        for number in np.unique(rows.slots).tolist():
            some = rows.where(rows.slots == number)
            sketch = self._sketch.fresh()
            sketch.write(some.keys, some.labels, some.base)
            self._add(number, Slot(sketch, int(some.times.min()), int(some.times.max())))

    def forget(self, numbers: Collection[int]) -> bool:
        """Take slots out, to be made again; return False where they were added up with others, and nothing is done."""
        if self._folded and min(numbers, default=np.inf) <= max(self._folded):
            return False
        for number in numbers:
            self._slots.pop(number, None)
        self.changes += 1
        self._add_up()
        return True

    def rebased(self, base: Memory) -> tuple[LiveMemory, set[int]] | None:
        """Return what a newer base leaves of this, and the slots that it covers in part, which must be made again.

        None where nothing of it can be used: the base hashes otherwise, or reaches less far than what was added up.
        """
        now = LiveMemory(base)
        if not _alike(self.base, base) or now.since < self.since:
            return None
        if self._older is not None and self._older.last >= now.since:
            return None
        now._slots = {number: slot for number, slot in self._slots.items() if slot.first >= now.since}
        now._add_up()
        cut = {number for number, slot in self._slots.items() if slot.first < now.since <= slot.last}
        return now, cut

    def memory(self, off: Collection[str] = ()) -> Memory:
        """Return base and slots as one memory that can be asked, some tasks switched off."""
        tasks = {
            name: task.model_copy(update={"enabled": task.enabled and name not in off})
            for name, task in self.base.header.tasks.items()
        }
        store = self._sketch if self._total is None else self._sketch.merged(self._total)
        return replace(self.base, header=self.base.header.model_copy(update={"tasks": tasks}), store=store)

    def _add(self, number: int, slot: Slot) -> None:
        self._total = slot.sketch if self._total is None else self._total.merged(slot.sketch)
        if self._folded and number <= max(self._folded):
            self._fold(number, slot)
        else:
            self._slots[number] = self._slots[number].merged(slot) if number in self._slots else slot
        while len(self._slots) > self._held:
            oldest = min(self._slots)
            self._fold(oldest, self._slots.pop(oldest))

    def _fold(self, number: int, slot: Slot) -> None:
        self._folded.add(number)
        self._older = slot if self._older is None else self._older.merged(slot)

    def _add_up(self) -> None:
        parts = [slot.sketch for slot in (self._older, *self._slots.values()) if slot is not None]
        self._total = reduce(Sketch.merged, parts) if parts else None


def sketch_of(memory: Memory) -> Sketch:
    """Return the sketch of a memory.

    Raises:
        TypeError: it keeps rows, to which no sums can be added.
    """
    if not isinstance(memory.store, Sketch):
        raise TypeError("rows are added to a memory whose store is a sketch")
    return memory.store


def _alike(one: Memory, other: Memory) -> bool:
    """Return whether rows of one memory fall into the same buckets of the other."""
    same = ("ranker_digest", "feedback", "key", "store", "seed", "projections")
    return all(getattr(one.header, name) == getattr(other.header, name) for name in same) and np.array_equal(
        one.centre, other.centre
    )
