"""What was asked, and what was answered? A log of rows, as they were used, that later becomes labelled ones.

An answer never waits for the log: a thread of its own makes segments of what comes, and what it cannot keep up with is
left out and counted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from registry.serving.server.live import Pointed
from registry.serving.server.segments import SERVED, TOLD, Segments

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.serving.answer import Answers

BASE, ANSWER = "base.", "answer."
"""Columns of a segment besides the raw ones, whose names have no dots: the question, `BASE` with each task before the
error memory, `ANSWER` with each task and ``expected_value`` as served."""
HIDDEN = "hidden."
"""The representation that an error memory finds its keys by, float32 lists of one length."""
WAITING = 1000
"""Questions that may wait for the log's thread."""
SEGMENT_BYTES = 16 << 20
SWEEP_AGAIN = 3600.0
"""Seconds between looks for what is too old."""
log = logging.getLogger("rankmill.serving")


@dataclass(frozen=True)
class Entry:
    """One answered question."""

    request: str
    at: datetime
    """When it was answered, UTC."""
    pointed: Pointed
    role: str
    rows: pa.Table
    """Raw rows as they were used, one per candidate."""
    answers: Answers
    degraded: tuple[str, ...]
    told: tuple[str, ...] = ()
    """Raw columns that a question tells, and no view holds."""
    propensity: float = 1.0
    """Chance with which this version, of those that might have, was to answer."""

    def table(self, hidden: bool, drop: Sequence[str]) -> pa.Table:
        """Return the rows of a segment.

        Args:
            hidden: keep the representation.
            drop: raw columns to leave out.
        """
        import pyarrow as pa

        count = self.rows.num_rows
        table = self.rows.select([name for name in self.rows.column_names if name not in drop])

        def same(value: object, kind: pa.DataType) -> pa.Array:
            return pa.array([value], kind).take(pa.array(np.zeros(count, dtype=np.int64)))

        text = pa.string()
        added: dict[str, pa.Array] = {
            f"{SERVED}request": same(self.request, text),
            f"{SERVED}row": pa.array([f"{self.request}:{place}" for place in range(count)], text),
            f"{SERVED}place": pa.array(np.arange(count, dtype=np.int32)),
            f"{SERVED}at": same(self.at, pa.timestamp("us", "UTC")),
            f"{SERVED}version": same(self.pointed.version, pa.int64()),
            f"{SERVED}digest": same(self.pointed.digest, text),
            f"{SERVED}memory": same(self.pointed.memory, text),
            f"{SERVED}role": same(self.role, text),
            f"{SERVED}degraded": same(list(self.degraded), pa.list_(text)),
            f"{SERVED}propensity": same(self.propensity, pa.float64()),
        }
        added |= {f"{BASE}{task}": pa.array(values) for task, values in self.answers.base.items()}
        added |= {f"{ANSWER}{task}": pa.array(values) for task, values in self.answers.tasks.items()}
        if self.answers.expected_value is not None:
            added[f"{ANSWER}expected_value"] = pa.array(self.answers.expected_value)
        if hidden:
            flat = np.ascontiguousarray(self.answers.hidden, dtype=np.float32)
            added[HIDDEN] = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
        for name, column in added.items():
            table = table.append_column(name, column)
        return table.replace_schema_metadata({TOLD: json.dumps(sorted(self.told)).encode()})


class ServedLog:
    """Writes entries in the background."""

    def __init__(
        self,
        segments: Segments,
        *,
        seconds: float,
        share: float = 1.0,
        hidden: bool = False,
        drop: Sequence[str] = (),
        keep: timedelta | None = None,
        beside: Sequence[Segments] = (),
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        """Write a segment every so many seconds, or when it is large.

        Args:
            segments: where to.
            seconds: the most that a crash may lose.
            share: share of the questions that are kept, by a hash of their id.
            hidden: keep the representation of each row.
            drop: raw columns to leave out.
            keep: how long segments stay; None for ever.
            beside: other folders of which as much is kept.
            dropped: told that an entry was left out because the log could not keep up.
        """
        self._segments, self._seconds, self._share = segments, seconds, share
        self._hidden, self._drop, self._dropped = hidden, tuple(drop), dropped
        self._keep, self._folders, self._swept = keep, (segments, *beside), float("-inf")
        self._waiting: queue.Queue[Entry | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def take(self, entry: Entry) -> None:
        """Keep an entry, unless its question is not in the share or there is no room; never waits."""
        if not kept(entry.request, self._share):
            return
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            self._dropped()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        held: list[pa.Table] = []
        due = time.monotonic() + self._seconds
        while True:
            try:
                entry = self._waiting.get(timeout=max(due - time.monotonic(), 0))
                stop = entry is None
                if entry is not None:
                    held.append(entry.table(self._hidden, self._drop))
            except queue.Empty:
                stop = False
            if stop or time.monotonic() >= due or sum(table.nbytes for table in held) > SEGMENT_BYTES:
                self._flush(held)
                held, due = [], time.monotonic() + self._seconds
                self._sweep()
            if stop:
                return

    def _sweep(self) -> None:
        """Delete what is older than it may be, now and then."""
        if self._keep is None or time.monotonic() - self._swept < SWEEP_AGAIN:
            return
        self._swept = time.monotonic()
        for folder in self._folders:
            try:
                folder.forget(datetime.now(UTC) - self._keep)
            except Exception as error:  # another process may have done it
                log.warning("old rows of the log cannot be deleted: %s", error)

    def _flush(self, held: list[pa.Table]) -> None:
        """Write what is held, a segment per shape of rows: versions may differ in their columns."""
        import pyarrow as pa

        by_shape: dict[str, list[pa.Table]] = {}
        for table in held:
            by_shape.setdefault(table.schema.to_string(), []).append(table)
        for tables in by_shape.values():
            try:
                self._segments.write(pa.concat_tables(tables), tables[0][f"{SERVED}at"][0].as_py())
            except Exception as error:  # what a store raises; a log that cannot be written must not end the service
                for _ in tables:
                    self._dropped()
                log.warning("the log of served rows cannot be written: %s", error)


def kept(request: str, share: float) -> bool:
    """Return whether a question is in a share of all, the same on every machine."""
    if share >= 1:
        return True
    digest = hashlib.blake2b(request.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
