"""What is known of a user and of the candidates? The online store, a cache of items, a way out when it is slow.

A value that is older than its view's TTL is missing, as it was in training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
    """What views hold of items, the most recently used of them, for a while."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep at most `most` answers for `seconds` each."""
        self._most, self._seconds, self._clock = most, seconds, clock
        self._held: OrderedDict[tuple[_Asked, Key], tuple[float, Held | None]] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, asked: _Asked, keys: Sequence[Key], *, stale: bool = False) -> dict[Key, Held | None]:
        """Return what is held of these keys; with `stale` also what was kept for too long."""
        now, found = self._clock(), {}
        with self._lock:
            for key in keys:
                entry = self._held.get((asked, key))
                if entry is not None and (stale or now < entry[0]):
                    self._held.move_to_end((asked, key))
                    found[key] = entry[1]
        return found

    def keep(self, asked: _Asked, found: Mapping[Key, Held | None]) -> None:
        """Remember answers; the least recently used ones make room."""
        until = self._clock() + self._seconds
        with self._lock:
            for key, held in found.items():
                self._held[asked, key] = (until, held)
                self._held.move_to_end((asked, key))
            while len(self._held) > self._most:
                self._held.popitem(last=False)

    def clear(self) -> None:
        """Forget everything, as after a materialisation."""
        with self._lock:
            self._held.clear()

    def __len__(self) -> int:
        return len(self._held)


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
        """Return what is known of each question's keys, all views asked at the same time."""
        found = [Found() for _ in questions]
        waiting: list[tuple[Question, Found, tuple[Key, ...], Future[list[Held | None]] | None]] = []
        for question, answer in zip(questions, found, strict=True):
            asked = (question.view, question.names)
            answer.held = self.cache.known(asked, question.keys) if question.kept else {}
            answer.kept = len(answer.held)
            absent = tuple(key for key in question.keys if key not in answer.held)
            if absent:
                read = None if self._breaker.open else self._threads.submit(self._read, question, absent)
                waiting.append((question, answer, absent, read))
        until = time.monotonic() + self._timeout
        for question, answer, absent, read in waiting:
            asked = (question.view, question.names)
            try:
                if read is None:
                    raise LateError
                values = dict(zip(absent, read.result(max(until - time.monotonic(), 0)), strict=True))
            except Exception as error:  # whatever a store raises, the answer is given without it
                if read is not None:
                    self._say(error)
                    read.cancel()
                    self._breaker.failed()
                answer.late = True
                values = self.cache.known(asked, absent, stale=True) if question.kept else {}
            else:
                if question.kept:
                    self.cache.keep(asked, values)
            answer.held |= values
        return found

    def _read(self, question: Question, keys: tuple[Key, ...]) -> list[Held | None]:
        return self._opened().read(question.view, keys, question.names)

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
