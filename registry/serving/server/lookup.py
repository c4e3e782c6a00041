"""What is known of a user and of the candidates? The online store, a cache of items, a way out when it is slow.

A value that is older than its view's TTL is missing, as it was in training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, field
from typing import Protocol

from features.joins.online_read import Held, Key

log = logging.getLogger("rankmill.serving")
FAILURES, WITHIN, REST = 5, 10.0, 2.0
"""After so many failures within so many seconds the store is left alone for so many seconds."""
_Asked = tuple[str, tuple[str, ...]]
"""A view and the features that are wanted of it."""


class Store(Protocol):
    """An online store; `features.joins.online_read.OnlineReader` is one."""

    def read(self, view: str, keys: Sequence[Key], names: Sequence[str]) -> list[Held | None]:
        """Return what a view holds of each key."""
        ...


@dataclass(frozen=True)
class Question:
    """What is asked of one view."""

    view: str
    names: tuple[str, ...]
    keys: tuple[Key, ...]
    """Each once, none with a missing part."""
    kept: bool
    """Whether answers may be kept for a while: those about items, not those about users."""


@dataclass
class Found:
    """What the store said."""

    held: dict[Key, Held | None] = field(default_factory=dict)
    late: bool = False
    """Whether the store did not answer in time; what is known from earlier is there all the same."""
    kept: int = 0
    """How many of the keys had been kept from earlier questions."""


class ItemCache:
    """What views hold of items, for a while; when there are too many, the oldest make room."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep at most `most` answers of each view for `seconds` each."""
        self._most, self._seconds, self._clock = most, seconds, clock
        self._held: dict[_Asked, dict[Key, tuple[float, Held | None]]] = {}
        self._lock = threading.Lock()

    def known(self, asked: _Asked, keys: Sequence[Key], *, stale: bool = False) -> dict[Key, Held | None]:
        """Return what is held of these keys; with `stale` also what was kept for too long."""
        with self._lock:
            held = self._held.get(asked)
            if not held:
                return {}
            now = float("-inf") if stale else self._clock()
            entries = ((key, held.get(key)) for key in keys)
            return {key: entry[1] for key, entry in entries if entry is not None and now < entry[0]}

    def keep(self, asked: _Asked, found: Mapping[Key, Held | None]) -> None:
        """Remember answers."""
        until = self._clock() + self._seconds
        with self._lock:
            held = self._held.setdefault(asked, {})
            for key, value in found.items():
                held.pop(key, None)  # so that it is the newest
                held[key] = (until, value)
            while len(held) > self._most:
                del held[next(iter(held))]

    def clear(self) -> None:
        """Forget everything, as after a materialisation."""
        with self._lock:
            self._held.clear()


class Breaker:
    """Whether it is worth asking a store that failed a moment ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin closed."""
        self._clock = clock
        self._failed: deque[float] = deque(maxlen=FAILURES)
        self._until = float("-inf")
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether the store is left alone for now."""
        return self._clock() < self._until

    def failed(self) -> None:
        """Note a failure."""
        with self._lock:
            now = self._clock()
            self._failed.append(now)
            if len(self._failed) == FAILURES and now - self._failed[0] <= WITHIN:
                self._until = now + REST
                self._failed.clear()


class Lookup:
    """The online store as a service asks it."""

    def __init__(self, store: Callable[[], Store], *, cache: ItemCache, timeout: float, threads: int = 8) -> None:
        """Ask `store()`, which may fail and is then asked for anew.

        Args:
            store: opens the store; called once unless it raises.
            cache: holds what may be kept.
            timeout: seconds that one question may wait for all views together.
            threads: reads at a time.
        """
        self._open = store
        self._store: Store | None = None
        self.cache, self._timeout = cache, timeout
        self._breaker = Breaker()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="features")
        self._opening = threading.Lock()
        self._said: set[str] = set()
        self.tried = False
        """Whether the store was opened, or was found not to open: a service is not ready before."""

    def start(self) -> None:
        """Open the store in a thread: its libraries take seconds, which no question has."""
        threading.Thread(target=self._first, name="open features", daemon=True).start()

    def _first(self) -> None:
        try:
            self._opened()
        except Exception as error:  # whatever a store raises: questions are answered without it
            self._say(error)
        self.tried = True

    def ask(self, questions: Sequence[Question]) -> list[Found]:
        """Return what is known of each question's keys; what the store has not told in time is late."""
        found = [Found() for _ in questions]
        waiting: list[tuple[Question, Found, tuple[Key, ...]]] = []
        for question, answer in zip(questions, found, strict=True):
            answer.held = self.cache.known(_asked(question), question.keys) if question.kept else {}
            answer.kept = len(answer.held)
            if absent := tuple(key for key in question.keys if key not in answer.held):
                waiting.append((question, answer, absent))
        if not waiting:
            return found
        told: dict[int, list[Held | None]] = {}
        if not self._breaker.open:
            read = self._threads.submit(self._read, [(question, absent) for question, _, absent in waiting], told)
            try:
                read.result(self._timeout)
            except Exception as error:  # whatever a store raises, the answer is given without it
                read.cancel()
                self._say(error)
                self._breaker.failed()
        for place, (question, answer, absent) in enumerate(waiting):
            values = told.get(place)
            if values is not None:
                fresh = dict(zip(absent, values, strict=True))
                answer.held |= fresh
                if question.kept:
                    self.cache.keep(_asked(question), fresh)
            else:
                answer.late = True
                if question.kept:
                    answer.held |= self.cache.known(_asked(question), absent, stale=True)
        return found

    def _read(self, questions: Sequence[tuple[Question, tuple[Key, ...]]], told: dict[int, list[Held | None]]) -> None:
        """Ask one view after the other, in one thread: waking one for each costs more than they take."""
        store = self._opened()
        for place, (question, keys) in enumerate(questions):
            told[place] = store.read(question.view, keys, question.names)

    def _opened(self) -> Store:
        with self._opening:
            if self._store is None:
                self._store = self._open()
            return self._store

    def _say(self, error: Exception) -> None:
        late = f"the online store took longer than {self._timeout * 1000:.0f} ms"
        sentence = late if isinstance(error, LateError) else str(error) or type(error).__name__
        if sentence not in self._said:  # once, however often it happens; the counts tell how often
            self._said.add(sentence)
            log.warning("%s; questions are answered without it", sentence)


def _asked(question: Question) -> _Asked:
    return question.view, question.names
