"""Which segments of a log are new? A tail of what a service answers and is told, by listing: nothing is sent to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from registry.memory.prequential import EPOCH
from registry.serving.learning.attribution import AT
from registry.serving.log.segments import Segments

if TYPE_CHECKING:
    import pyarrow as pa

MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
log = logging.getLogger("rankmill.serving")


class LogTail:
    """Remembers which segments it has seen, and keeps recent feedback."""

    def __init__(self, questions: Segments, feedback: Segments, *, after: timedelta, segment: timedelta) -> None:
        """Begin with nothing seen.

        Args:
            questions: segments of answers.
            feedback: segments of events.
            after: how long after an answer feedback counts.
            segment: the longest span of one segment's rows.
        """
        self._questions, self._feedback = questions, feedback
        self._after, self._back = after, HOUR + segment
        self._seen: set[str] = set()
        self._recent: dict[str, pa.Table] = {}
        self._older: dict[str, pa.Table] = {}
        self._recent_since: datetime | None = None
        self._told: list[pa.Table] = []
        self._looked: datetime | None = None

    def look(self, now: datetime, since: datetime) -> tuple[dict[str, tuple[int, int]], list[pa.Table]]:
        """Return what appeared since the last look.

        Args:
            now: moment of the look, UTC.
            since: moment from which on the first look reads.

        Returns:
            The span of each new segment of answers, first and last moment in microseconds, by name; and the new
            segments of feedback, none at the first look.
        """
        begin = since - HOUR if self._looked is None else self._looked - self._back
        if self._recent_since is None:
            self._recent_since = now - self._after - self._back
        feedback_begin = self._recent_since if self._looked is None else begin
        for name in self._feedback.names(feedback_begin, now + HOUR):
            if name not in self._recent and (table := self._read(self._feedback, name)) is not None:
                self._recent[name] = table
                self._told.append(table)  # told of when all could be read
        spans = {}
        for name in self._questions.names(begin, now + HOUR):
            if name not in self._seen:
                table = self._read(self._questions, name, [AT])
                if table is not None and table.num_rows:
                    moments = table[AT].cast("int64").to_numpy()
                    spans[name] = int(moments.min()), int(moments.max())
        told, self._told = [] if self._looked is None else self._told, []
        self._seen.update(spans)
        self._looked = now
        self._forget(now)
        return spans, told

    def answers(self, names: Sequence[str], columns: Sequence[str]) -> list[pa.Table]:
        """Return segments of answers, those that are gone left out."""
        found = (self._read(self._questions, name, columns) for name in names)
        return [table for table in found if table is not None]

    def events(self, first: int, last: int) -> pa.Table | None:
        """Return the feedback that was received in a span of microseconds, and maybe more; None where there is none."""
        import pyarrow as pa

        begin, end = (EPOCH + moment * MICROSECOND for moment in (first, last))
        if self._recent_since is not None and begin >= self._recent_since:
            hours = f"date={begin:%Y-%m-%d}/hour={begin:%H}", f"date={end:%Y-%m-%d}/hour={end:%H}~"
            tables = [table for name, table in self._recent.items() if hours[0] <= name <= hours[1]]
        else:
            held, self._older = self._older, {}
            for name in self._feedback.names(begin, end + MICROSECOND):
                table = held.get(name, self._recent.get(name))
                table = table if table is not None else self._read(self._feedback, name)
                if table is not None:
                    self._older[name] = table
            tables = [*self._older.values()]
        return pa.concat_tables(tables) if tables else None

    def _forget(self, now: datetime) -> None:
        """Forget what no further look asks for: names that are listed no more, and feedback that is old."""
        listed = now - self._back - HOUR
        self._seen = {name for name in self._seen if name >= f"date={listed:%Y-%m-%d}/hour={listed:%H}"}
        since = now - self._after - self._back
        if self._recent_since is not None and since > self._recent_since + HOUR:
            self._recent_since = since
            kept = f"date={since:%Y-%m-%d}/hour={since:%H}"
            self._recent = {name: table for name, table in self._recent.items() if name >= kept}

    def _read(self, segments: Segments, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        import pyarrow as pa

        try:
            return segments.open(name, columns)
        except FileNotFoundError:  # it became too old in between
            return None
        except pa.ArrowInvalid as error:
            if name not in self._seen:
                log.warning("segment %s of the log cannot be read and is left out: %s", name, error)
                self._seen.add(name)
            return None
