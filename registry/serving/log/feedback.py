"""What did people do with what they were shown? Events that name a question and an item, durable when accepted.

Several calls share one segment: a call waits a moment for others, and for the disk.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from features.ground.errors import did_you_mean
from registry.serving.log.segments import Segments
from registry.serving.wire.protocol import LONGEST_TEXT, RefusedError

if TYPE_CHECKING:
    import pyarrow as pa

AHEAD = timedelta(minutes=5)
"""How far a clock of a caller may be ahead."""
TOGETHER = 0.1
"""Seconds that a call waits for others."""
MOST_EVENTS = 10_000


@dataclass(frozen=True)
class Event:
    """What somebody did with one item of one answer."""

    request: str
    """Id of the question."""
    item: int | str
    feedback: str
    at: datetime
    id: str
    """Equal for the same event that is sent again."""


class _Event(msgspec.Struct, forbid_unknown_fields=True):
    request_id: str
    item_id: int | str
    feedback: str
    at: datetime | None = None
    event_id: str | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    events: list[_Event]


_DECODER = msgspec.json.Decoder(_Body)


def parse_events(body: bytes, known: Sequence[str], now: datetime) -> list[Event]:
    """Return the events of a ``feedback`` call.

    Args:
        body: JSON.
        known: names of feedback that the model predicts.
        now: the server's time, UTC; events without a time happened then.

    Raises:
        RefusedError: 400, it holds something else; nothing of it is taken.
    """
    try:
        read = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(
            400, f"the body is no feedback ({' '.join(str(error).split())[:160]}): send events"
        ) from None
    if len(read.events) > MOST_EVENTS:
        raise RefusedError(400, f"the body holds {len(read.events)} events: send at most {MOST_EVENTS}")
    return [_event(place, event, known, now) for place, event in enumerate(read.events)]


def _event(place: int, event: _Event, known: Sequence[str], now: datetime) -> Event:
    if event.feedback not in known:
        said = did_you_mean(event.feedback[:63], known)
        raise RefusedError(400, f"event {place}: the model knows no feedback {event.feedback[:63]!r}{said}")
    at = event.at or now
    if at.tzinfo is None:
        raise RefusedError(400, f"event {place}: at has no zone: write a time such as 2026-01-31T23:59:00Z")
    if at > now + AHEAD:
        raise RefusedError(400, f"event {place}: at lies {at - now} ahead of this server's clock: correct the clock")
    texts = (event.request_id, event.event_id or "", event.item_id if isinstance(event.item_id, str) else "")
    if not event.request_id or max(map(len, texts)) > LONGEST_TEXT:
        raise RefusedError(400, f"event {place}: ids are texts of 1 to {LONGEST_TEXT} characters")
    at = at.astimezone(UTC)
    whole = f"{event.request_id}\x00{event.item_id!r}\x00{event.feedback}\x00{at.isoformat()}"
    own = event.event_id or hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
    return Event(event.request_id, event.item_id, event.feedback, at, own)


class FeedbackLog:
    """Writes events, those of several calls together."""

    def __init__(self, segments: Segments) -> None:
        """Write to `segments`."""
        self._segments = segments
        self._waiting: queue.Queue[tuple[list[Event], Future[int]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()

    def take(self, events: list[Event]) -> Future[int]:
        """Return what tells how many events were written, when they are durable, or why they could not be."""
        done: Future[int] = Future()
        self._waiting.put((events, done))
        return done

    def stop(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        stop = False
        while not stop:
            calls = [self._waiting.get()]
            until = time.monotonic() + TOGETHER
            while calls[-1] is not None:
                try:
                    calls.append(self._waiting.get(timeout=max(until - time.monotonic(), 0)))
                except queue.Empty:
                    break
            stop = calls[-1] is None
            whole = [call for call in calls if call is not None]
            try:
                if events := [event for some, _ in whole for event in some]:
                    now = datetime.now(UTC)
                    self._segments.write(_table(events, now), now)
            except Exception as error:  # what a store raises reaches every caller
                for _, done in whole:
                    done.set_exception(error)
            else:
                for some, done in whole:
                    done.set_result(len(some))


def _table(events: Sequence[Event], received: datetime) -> pa.Table:
    import pyarrow as pa

    moment = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "request": pa.array([event.request for event in events], pa.string()),
            "item": pa.array([str(event.item) for event in events], pa.string()),
            "feedback": pa.array([event.feedback for event in events], pa.string()),
            "at": pa.array([event.at for event in events], moment),
            "event": pa.array([event.id for event in events], pa.string()),
            "received": pa.array([received] * len(events), moment),
        }
    )
