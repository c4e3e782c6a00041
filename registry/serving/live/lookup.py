"""What is known of a user and of the candidates? The online store, a cache of items, a way out when it is slow.

A value that is older than its view's TTL is missing, as it was in training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import numpy as np

from features.joins.online_read import Held, Key
from registry.serving.live.kept import Asked, Found, ItemCache

log = logging.getLogger("rankmill.serving")
FAILURES, WITHIN, REST = 5, 10.0, 2.0
"""After so many failures within so many seconds the store is left alone for so many seconds."""


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

    @property
    def asked(self) -> Asked:
        """What answers are kept under."""
        return self.view, self.names


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


class Readers:
    """Threads that ask the store; a process ends without them, because a store may never answer."""

    def __init__(self, most: int) -> None:
        """Start at most so many, one with each question until there are."""
        self._missing = most
        self._waiting: SimpleQueue[tuple[Future[None], Callable[[], None]]] = SimpleQueue()

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Return what tells the end of a piece of work; it may be cancelled until it begins."""
        done: Future[None] = Future()
        self._waiting.put((done, work))
        if self._missing > 0:
            self._missing -= 1
            threading.Thread(target=self._run, name="features", daemon=True).start()
        return done

    def _run(self) -> None:
        while True:
            done, work = self._waiting.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                work()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)


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
        self._threads = Readers(threads)
        self._opening = threading.Lock()
        self._said: set[str] = set()
        self.looked = threading.Event()
        """Set when the store was opened, or was found not to open: a service is not ready before."""

    def start(self) -> None:
        """Open the store in a thread: its libraries take seconds, which no question has."""
        threading.Thread(target=self._first, name="open features", daemon=True).start()

    def _first(self) -> None:
        try:
            self._opened()
        except Exception as error:  # whatever a store raises: questions are answered without it
            self._say(error)
        self.looked.set()

    def ask(self, questions: Sequence[Question]) -> list[Found]:
        """Return what is known of each question's keys; what the store has not told in time is late."""
        found = [Found.nothing(len(question.keys), len(question.names)) for question in questions]
        waiting: list[tuple[Question, Found, list[int]]] = []
        for question, answer in zip(questions, found, strict=True):
            if question.kept:
                self.cache.fill(question.asked, question.keys, answer)
            if absent := np.flatnonzero(~answer.told).tolist():
                waiting.append((question, answer, absent))
        if not waiting:
            return found
        told: dict[int, list[Held | None]] = {}
        if not self._breaker.open:
            reads = [(question, [question.keys[place] for place in absent]) for question, _, absent in waiting]
            read = self._threads.submit(lambda: self._read(reads, told))
            try:
                read.result(self._timeout)
            except Exception as error:  # whatever a store raises, the answer is given without it
                read.cancel()
                self._say(error)
                self._breaker.failed()
        for place, (question, answer, absent) in enumerate(waiting):
            values = told.get(place)
            if values is not None:
                answer.put(absent, values)
                if question.kept:
                    self.cache.keep(question.asked, [question.keys[at] for at in absent], values)
            else:
                answer.late = True
                if question.kept:
                    self.cache.fill(question.asked, question.keys, answer, stale=True)
        return found

    def _read(self, questions: Sequence[tuple[Question, Sequence[Key]]], told: dict[int, list[Held | None]]) -> None:
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
