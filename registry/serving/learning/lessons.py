"""What has one base memory learned from the log since? Rows whose time for feedback is over, each once.

A segment is read when the time of its last row is over. What turns up later and would have changed a label, or shows
that a question had been answered earlier, makes the slots that it touches be made again: what is learned depends on the
segments alone, never on when a process saw them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.memory.error_memory import Memory
from registry.memory.prequential import EPOCH
from registry.serving.learning.attribution import (
    AT,
    EARLY,
    PLACE,
    REQUEST,
    ROW,
    Law,
    asked,
    asked_once,
    events_of,
    in_time,
    labels,
    named,
)
from registry.serving.learning.breaker import Breaker
from registry.serving.learning.live_memory import MICROSECOND, SLOT, ClosedRows, LiveMemory
from registry.serving.learning.log_tail import LogTail
from registry.serving.live.version import Live
from registry.serving.log.segments import ANSWER, BASE, HIDDEN, SERVED, SHADOW

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Array = np.ndarray[Any, Any]
SETTLE = timedelta(seconds=10)
"""What a segment may take until every process sees it, clocks that differ included; beyond it a slot is read twice."""
AT_ONCE = 16
"""Segments that are learned together."""
NEVER = np.iinfo(np.int64).max
log = logging.getLogger("rankmill.serving")


@dataclass
class Asked:
    """Which questions were answered when, slot by slot, so that an id that comes again is known."""

    slots: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    """By slot: hashes of ids, uint64, sorted, and moments, int64 microseconds."""

    def first(self, requests: Array) -> Array:
        """Return the moment at which each question was answered, int64; `NEVER` where it was not."""
        found = np.full(len(requests), NEVER)
        for hashes, moments in self.slots.values():
            place = np.minimum(np.searchsorted(hashes, requests), len(hashes) - 1)
            found = np.where(hashes[place] == requests, np.minimum(found, moments[place]), found)
        return found

    def add(self, requests: Array, moments: Array) -> None:
        """Add questions; rows of one question have one moment."""
        for number in np.unique(moments // SLOT).tolist():
            inside = moments // SLOT == number
            held = self.slots.get(number, (np.zeros(0, np.uint64), np.zeros(0, np.int64)))
            hashes, places = np.unique(np.concatenate([held[0], requests[inside]]), return_index=True)
            self.slots[number] = hashes, np.concatenate([held[1], moments[inside]])[places]


class Lessons:
    """One base memory of one version, and what the log has taught since. One thread works on it."""

    def __init__(self, live: Live, tail: LogTail, *, after: timedelta, segment: timedelta) -> None:
        """Begin with the base alone.

        Args:
            live: a version with a memory whose store is a sketch.
            tail: the log, of which nothing was read.
            after: how long after an answer feedback counts.
            segment: the longest span of one segment's rows.
        """
        self.live, self._tail = live, tail
        self._after, self._segment = after, segment
        self._base = _memory_of(live)
        self.memory, self.breaker = LiveMemory(self._base), Breaker(self._base.header)
        declaration = live.model.contract.schema_.declaration
        self._item, self._time = declaration.item, declaration.time
        self._law = Law(declaration.feedback, declaration.funnel, after, at_once=True)
        self._open: dict[str, tuple[int, int]] = {}
        self._learned: dict[str, tuple[int, int]] = {}
        self._asked = Asked()
        self._touched: set[int] = set()
        """Slots that have to be made again."""
        self._repeated = self._broken = self._said = False

    def look(self, now: datetime) -> bool:
        """Learn what is over by now; return False where all since the base has to be read again."""
        if self._broken:
            return False
        since = EPOCH + self.memory.since * MICROSECOND
        spans, told = self._tail.look(now, since)
        self._open |= spans
        self._touched |= self._touched_by(told)
        ripe_until = _micros(now - self._after - SETTLE)
        ripe = sorted(name for name, (_, last) in self._open.items() if last < ripe_until)
        for start in range(0, len(ripe), AT_ONCE):
            self._learn(ripe[start : start + AT_ONCE])
        if not self._settled():
            return False
        settled = _micros(now - self._after - self._segment - 2 * SETTLE)
        self.breaker.close(min([settled, *(first for first, _ in self._open.values())]) // SLOT)
        return True

    def rebased(self, live: Live) -> Lessons | None:
        """Return what stays when the same version gets a newer base, or None where all has to be read again."""
        left = self.memory.rebased(_memory_of(live))
        if left is None or self._repeated or self._broken:
            return None
        now = Lessons(live, self._tail, after=self._after, segment=self._segment)
        now.memory, cut = left
        kept = now.memory.numbers
        now._asked = Asked({number: held for number, held in self._asked.slots.items() if number in kept})
        now._open, now._touched = dict(self._open), cut
        now._learned = {
            name: (first, last)
            for name, (first, last) in self._learned.items()
            if not (kept | cut).isdisjoint(range(first // SLOT, last // SLOT + 1))
        }
        return now if now._settled() else None

    def _settled(self) -> bool:
        """Make again what has to be; return False where that cannot be done slot by slot."""
        while self._touched:
            numbers, self._touched = self._touched, set()
            if not self.memory.forget(numbers):
                return False
            self._again(numbers)
        return True

    def _touched_by(self, told: Sequence[pa.Table]) -> set[int]:
        """Return the slots of rows that were learned without an event that counts."""
        import pyarrow as pa

        if not told:
            return set()
        table = pa.concat_tables(told)
        answered = self._asked.first(_hashes(table["request"]))
        came = np.maximum(*(table[name].cast("int64").to_numpy() for name in ("at", "received")))
        counts = (answered < NEVER) & (came - self._after // MICROSECOND < answered)
        return {*(answered[counts] // SLOT).tolist()}

    def _learn(self, names: Sequence[str]) -> None:
        self._take(self._closed(self._tail.answers(names, self._columns), None))
        for name in names:
            self._learned[name] = self._open.pop(name)

    def _again(self, numbers: Collection[int]) -> None:
        """Make slots again that were taken out of the memory."""
        self._broken = True  # until it is done: a store that fails in between leaves slots out
        begin, end = min(numbers) * SLOT, (max(numbers) + 1) * SLOT
        names = [name for name, (first, last) in self._learned.items() if first < end and begin <= last]
        for number in numbers:
            self._asked.slots.pop(number, None)
        self.breaker.forget(numbers)
        for start in range(0, len(names), AT_ONCE):
            tables = self._tail.answers(sorted(names)[start : start + AT_ONCE], self._columns)
            self._take(self._closed(tables, numbers))
        self._broken = False

    def _take(self, rows: ClosedRows | None) -> None:
        if rows is not None:
            self._asked.add(rows.requests, rows.at)
            self.memory.write(rows)
            self.breaker.take(rows)

    @property
    def _columns(self) -> list[str]:
        header = self._base.header
        said = [ROW, REQUEST, AT, *(f"{SERVED}{name}" for name in ("digest", "memory", "role"))]
        tasks = [f"{prefix}{task}" for prefix in (BASE, ANSWER) for task in header.feedback]
        return [*dict.fromkeys([*said, self._item, self._time, *header.key.columns, HIDDEN, *tasks])]

    def _closed(self, tables: Sequence[pa.Table], slots: Collection[int] | None) -> ClosedRows | None:
        """Return the rows of segments that this version answered, of some slots or of all, with their labels.

        Slots that hold rows of a question which these say was answered earlier have to be made again.
        """
        import polars as pl
        import pyarrow as pa
        import pyarrow.compute as pc

        own = [self._own(table) for table in tables]
        whole = [table for table in own if table is not None and table.num_rows]
        if not whole:
            return None
        table = pa.concat_tables(whole, promote_options="permissive").combine_chunks()
        inside = asked(table, self._item, self._time).with_columns(
            pl.Series("hash", _hashes(table[REQUEST])),
            pl.col(AT).dt.epoch("us").alias("moment"),
            pl.col(self._time).dt.epoch("us").alias("time"),
        )
        inside = inside.filter(pl.col("time") >= self.memory.since)
        if slots is not None:
            inside = inside.filter((pl.col("moment") // SLOT).is_in([*slots]))
        frame = asked_once(inside)
        first = self._asked.first(frame["hash"].to_numpy())
        new = frame["moment"].to_numpy() < first
        self._touched |= {*(first[new & (first < NEVER)] // SLOT).tolist()}
        frame = frame.filter(new)
        self._repeated |= len(frame) < len(inside)
        if not len(frame):
            return None
        found = self._labels(frame)
        table = table.take(pa.array(frame[PLACE].to_numpy()))
        header, memory = self._base.header, table[f"{SERVED}memory"]
        digest = self.live.pointed.memory
        corrected = pc.or_(pc.equal(memory, digest), pc.starts_with(memory, f"{digest}+"))
        hidden = table[HIDDEN].combine_chunks().flatten().to_numpy().reshape(len(frame), -1)
        return ClosedRows(
            at=frame["moment"].to_numpy(),
            times=frame["time"].to_numpy(),
            requests=frame["hash"].to_numpy(),
            keys=self._base.keys(hidden, table),
            labels={task: found[task].to_numpy().astype(np.float64) for task in header.feedback},
            base={task: table[f"{BASE}{task}"].to_numpy() for task in header.feedback},
            answered={task: table[f"{ANSWER}{task}"].to_numpy() for task in header.feedback},
            corrected=corrected.to_numpy().astype(bool),
        )

    def _labels(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        moments = frame["moment"].to_numpy()
        begin, end = int(moments.min()) - EARLY // MICROSECOND, int(moments.max()) + self._after // MICROSECOND
        events = events_of(self._tail.events(begin, end))
        return labels(frame, in_time(named(events, frame), self._law), self._law)

    def _own(self, table: pa.Table) -> pa.Table | None:
        """Return the rows of a segment that this version answered to somebody; None where a column is missing."""
        import pyarrow.compute as pc

        own = pc.and_(
            pc.equal(table[f"{SERVED}digest"], self.live.pointed.digest),
            pc.not_equal(table[f"{SERVED}role"], SHADOW),
        )
        table = table.filter(own)
        absent = [name for name in self._columns if name not in table.column_names]
        if absent and table.num_rows and not self._said:
            self._said = True
            log.warning("the log has no %s, so answers teach the error memory nothing: keep it", ", ".join(absent))
        return None if absent else table


def _memory_of(live: Live) -> Memory:
    if live.memory is None:
        raise TypeError("a version without an error memory has no base to learn beside")
    return live.memory


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _hashes(requests: pa.ChunkedArray) -> Array:
    """Return a 64-bit hash of each id, the same on every machine."""
    from pandas.util import hash_array

    return np.asarray(hash_array(np.asarray(requests.to_pylist(), dtype=object), categorize=True), dtype=np.uint64)
