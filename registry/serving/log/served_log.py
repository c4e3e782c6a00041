"""What was asked, and what was answered? A log of rows, as they were used, that later becomes labelled ones.

An answer never waits for the log: a thread of its own makes segments of what comes, and what it cannot keep up with is
left out and counted.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from registry.serving.log.segments import Segments
from registry.serving.log.served_rows import Entry, Hashes, segment_of

WAITING = 1000
"""Questions that may wait for the log's thread."""
SEGMENT_BYTES = 16 << 20
LOOK = 0.2
"""Seconds between looks for what waits: to wake the thread for each question would cost it and the question more than
all that the thread does."""
SWEEP_AGAIN = 3600.0
"""Seconds between looks for what is too old."""
log = logging.getLogger("rankmill.serving")


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
        hashes: Hashes | None = None,
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
            hashes: raw columns to keep as hashes.
            keep: how long segments stay; None for ever.
            beside: other folders of which as much is kept.
            dropped: told that an entry was left out because the log could not keep up.
        """
        self._segments, self._seconds, self._share = segments, seconds, share
        self._hidden, self._drop, self._hashes, self._dropped = hidden, tuple(drop), hashes, dropped
        self._keep, self._folders, self._swept = keep, (segments, *beside), float("-inf")
        self._waiting: deque[Entry] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def take(self, entry: Entry) -> None:
        """Keep an entry, unless its question is not in the share or there is no room; never waits."""
        if not kept(entry.request, self._share):
            return
        if len(self._waiting) < WAITING:
            self._waiting.append(entry)
        else:
            self._dropped()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stopping.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        held: list[Entry] = []
        size, due = 0, time.monotonic() + self._seconds
        stop = False
        while not stop:
            pause = 0 if self._waiting else min(LOOK, max(due - time.monotonic(), 0))  # much may have come meanwhile
            stop = self._stopping.wait(pause)
            while self._waiting and size <= SEGMENT_BYTES:
                held.append(self._waiting.popleft())
                size += held[-1].size
            if stop or time.monotonic() >= due or size > SEGMENT_BYTES:
                self._flush(held)
                held, size, due = [], 0, time.monotonic() + self._seconds
                self._sweep()
            stop = stop and not self._waiting

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

    def _flush(self, held: Sequence[Entry]) -> None:
        """Write what is held, a segment per shape of rows: versions may differ in their columns."""
        by_shape: dict[tuple[object, ...], list[Entry]] = {}
        for entry in held:
            by_shape.setdefault(entry.shape, []).append(entry)
        for entries in by_shape.values():
            try:
                self._segments.write(segment_of(entries, self._hidden, self._drop, self._hashes), entries[0].at)
            except Exception as error:  # what a store raises; a log that cannot be written must not end the service
                for _ in entries:
                    self._dropped()
                log.warning("the log of served rows cannot be written: %s", error)


def kept(request: str, share: float) -> bool:
    """Return whether a question is in a share of all, the same on every machine."""
    if share >= 1:
        return True
    digest = hashlib.blake2b(request.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
