"""Which version should answer now? A thread that asks the registry, opens what it points at, and exchanges it.

Whatever goes wrong on the way, what answers goes on answering.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

from features.ground.errors import MissingError, RankmillError
from registry.serving.live.version import Live
from registry.serving.wire.pointed import Pointed

MOST_PATIENCE = 60.0
"""Longest pause in seconds after failures in a row."""
JITTER = 0.2
"""Share by which pauses differ, so that processes do not ask all at once."""
log = logging.getLogger("rankmill.serving")


class Versions(Protocol):
    """Where versions are looked up and brought from."""

    def pointed(self) -> Pointed:
        """Return what the registry points at; any exception means that it cannot tell."""
        ...

    def open(self, pointed: Pointed) -> Live:
        """Return a version, opened, proved and warm."""
        ...

    def with_memory(self, live: Live, pointed: Pointed) -> Live:
        """Return a version with the error memory that the registry points at."""
        ...

    def with_bandit(self, live: Live, pointed: Pointed) -> Live:
        """Return a version with the bandit that the registry points at."""
        ...

    def last(self) -> Pointed | None:
        """Return what answered last on this machine, or None."""
        ...

    def remember(self, pointed: Pointed) -> None:
        """Note what answers, for a start without a registry."""
        ...


class Observer(Protocol):
    """Who is told about changes."""

    def exchanged(self, before: Live | None, now: Live, seconds: float) -> None:
        """A version or its memory took another one's place, `seconds` after the registry was asked."""
        ...

    def gone(self, before: Live) -> None:
        """A version that may be absent is no more."""
        ...

    def failed(self, reason: str) -> None:
        """It could not be found out or opened; `reason` is a word."""
        ...


class Follower:
    """Holds what answers, and exchanges it when the registry says so."""

    def __init__(
        self,
        versions: Versions,
        every: float,
        observer: Observer,
        pause: Callable[[float], float] | None = None,
        *,
        optional: bool = False,
    ) -> None:
        """Ask `versions` every so many seconds.

        Args:
            versions: where versions come from.
            every: seconds between questions to the registry.
            observer: told about changes and failures.
            pause: seconds to wait instead of those given; for jitter.
            optional: whether nothing may be there; what the registry no longer points at is then let go.
        """
        self.live: Live | None = None
        self.without_registry = False
        """Whether the registry did not answer last time."""
        self.looked = threading.Event()
        """Set when the registry was asked once, whatever came of it."""
        self._versions, self._every, self._observer = versions, every, observer
        self._pause = pause or (lambda seconds: seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        self._optional, self._failures = optional, 0
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        """Begin to follow, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; what answers stays."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def look(self) -> None:
        """Ask once, and exchange what has changed."""
        try:
            self._look()
        finally:
            self.looked.set()

    def _look(self) -> None:
        started = time.monotonic()
        try:
            pointed = self._versions.pointed()
            self.without_registry = False
        except Exception as error:
            if self._optional and isinstance(error, MissingError):
                self._let_go(error)
                return
            self.without_registry = True
            self._failed("registry", error)
            last = self._versions.last() if self.live is None else None
            if last is None:
                return
            pointed = last
        try:
            self._take(pointed, started)
        except Exception as error:
            self._failed("version", error)

    def _take(self, pointed: Pointed, started: float) -> None:
        before = self.live
        if before is not None and (before.pointed.version, before.pointed.digest) == (pointed.version, pointed.digest):
            if (before.pointed.memory, before.pointed.bandit) == (pointed.memory, pointed.bandit):
                self._well()
                return
            now = before
            if before.pointed.memory != pointed.memory:
                now = self._versions.with_memory(now, pointed)
            if before.pointed.bandit != pointed.bandit:
                now = self._versions.with_bandit(now, pointed)
        else:
            now = self._versions.open(pointed)
        self.live = now  # one assignment: a question that has read the old one keeps it
        self._well()
        if not self.without_registry:
            self._versions.remember(now.pointed)
        self._observer.exchanged(before, now, time.monotonic() - started)
        does = f"is open as {now.alias}" if self._optional else "answers"
        log.info(
            "%s v%d %s%s", now.name, now.pointed.version, does, " with its error memory" if now.memory else "",
            extra={"model": now.name, "version": now.pointed.version},
        )  # fmt: skip

    def _let_go(self, error: MissingError) -> None:
        """Hold nothing, which is no failure."""
        before, self.live = self.live, None
        self.without_registry, self._failures = False, 0
        if before is not None:
            self._said = set()
            self._observer.gone(before)
        if str(error) not in self._said:
            self._said.add(str(error))
            log.info("%s", error)

    def _well(self) -> None:
        if not self.without_registry:
            self._failures, self._said = 0, set()

    def _failed(self, reason: str, error: Exception) -> None:
        self._failures += 1
        self._observer.failed(reason)
        sentence = str(error) if isinstance(error, RankmillError) else f"{type(error).__name__}: {error}"
        if sentence not in self._said:  # said once, however often it is tried
            self._said.add(sentence)
            kept = f"; {self.live.name} v{self.live.pointed.version} goes on answering" if self.live else ""
            log.warning("%s%s", sentence, kept, extra={"reason": reason})

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._pause(patience(self._every, self._failures)))


def patience(every: float, failures: int) -> float:
    """Return the seconds until the registry is asked again, after so many failures in a row."""
    return min(every * 2 ** min(failures, 10), max(MOST_PATIENCE, every))
