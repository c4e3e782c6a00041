"""Who gets the challenger's answers, and until when? A share of the users, until it fails or is slow too often.

A user stays with one version in every process and after every start. Where the challenger fails, the champion answers
instead and the answer says so; what only the caller did wrong is no failure.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from registry.serving.live.counters import Counters
from registry.serving.live.version import Answered, Live
from registry.serving.trial.challenger import Challenger
from registry.serving.wire.config import Canary, ServingConfig, Stop
from registry.serving.wire.protocol import Question, RefusedError

ROLE = "canary"
"""Role of the challenger in answers, counts and the log."""
WINDOW = 60.0
"""Seconds over which a canary is judged."""
FEW = 5
"""Bad answers within the window that may be chance, whatever their share is."""
SLOWEST = 0.01
"""Share of answers that lie above their 99th percentile."""
log = logging.getLogger("rankmill.serving")


def in_share(user: object, service: str, share: float) -> bool:
    """Return whether a user is among a share of all, the same on every machine and independent between services."""
    salt = hashlib.blake2b(service.encode(), digest_size=hashlib.blake2b.SALT_SIZE).digest()
    digest = hashlib.blake2b(str(user).encode(), digest_size=8, salt=salt).digest()
    return int.from_bytes(digest, "big") < share * 2**64


class StopRule:
    """Whether a canary has failed, or was slow, too often within `WINDOW`; once it has, it stays so."""

    def __init__(self, stop: Stop, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no answers."""
        self._stop, self._clock = stop, clock
        self._p99 = stop.p99.total_seconds()
        self._seen: deque[tuple[float, bool, bool]] = deque()
        self._failed = self._slow = 0
        self._lock = threading.Lock()
        self.tripped: Literal["errors", "p99"] | None = None
        """Why it is given up, or None."""

    def note(self, seconds: float, *, failed: bool) -> bool:
        """Take one answer into account, and return whether this was the one too many."""
        with self._lock:
            now, slow = self._clock(), seconds > self._p99
            self._seen.append((now, failed, slow))
            self._failed, self._slow = self._failed + failed, self._slow + slow
            while self._seen[0][0] <= now - WINDOW:
                _, was_failed, was_slow = self._seen.popleft()
                self._failed, self._slow = self._failed - was_failed, self._slow - was_slow
            if self.tripped is not None:
                return False
            answers = len(self._seen)
            if self._failed >= FEW and self._failed > self._stop.errors * answers:
                self.tripped = "errors"
            elif self._slow >= FEW and self._slow > SLOWEST * answers:
                self.tripped = "p99"
            return self.tripped is not None


@dataclass(frozen=True)
class Routed:
    """An answer, and how it came to be given by whom."""

    found: Answered
    live: Live
    """What answered."""
    role: str
    propensity: float = 1.0
    """Chance of the arm that the question fell to."""
    fell_back: bool = False
    """Whether the champion answered because the challenger could not."""


class CanaryRoute:
    """Gives a share of the users to the challenger."""

    def __init__(
        self,
        challenger: Challenger,
        options: Canary,
        service: str,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Route the questions of one process.

        Args:
            challenger: the other version.
            options: whom it answers, and until when.
            service: name of the service, which salts the choice.
            counters: told what became of it.
            clock: seconds that only grow.
        """
        self.challenger, self.options = challenger, options
        self._service, self._counters, self._clock = service, counters, clock
        self._rule = StopRule(options.stop, clock)
        self._said: set[str] = set()

    @property
    def share(self) -> float:
        """Share of the users that it answers now."""
        return 0.0 if self._rule.tripped else self.options.share

    @property
    def stopped(self) -> str:
        """Why it is given up; empty while it is not."""
        return self._rule.tripped or ""

    def route(
        self,
        champion: Live,
        question: Question,
        config: ServingConfig,
        now: datetime,
        ask_champion: Callable[[], Answered],
        stage: Callable[[str], None] = lambda name: None,
    ) -> Routed:
        """Return the answer of the version that the question's user belongs to.

        Args:
            champion: what answers everybody else.
            question: what is asked.
            config: limits and fallbacks.
            now: time of the request where the question does not give one, UTC.
            ask_champion: gives the champion's answer.
            stage: told the name of each step when it is done.

        Raises:
            RefusedError: the champion refuses the question too.
        """
        share, user = self.share, _user(question, champion)
        if not share or user is None:
            return Routed(ask_champion(), champion, champion.alias)
        live = self.challenger.live
        if live is None:
            self._counters.canary.labels("absent").inc()
            return Routed(ask_champion(), champion, champion.alias)
        if not in_share(user, self._service, share):
            return Routed(ask_champion(), champion, champion.alias, 1 - share)
        began = self._clock()
        try:
            found = self.challenger.answer(live, champion, question, config, now, stage=stage)
        except RefusedError as error:
            seconds = self._clock() - began
            instead = ask_champion()  # if it refuses too, the mistake is the caller's
            self._failed(seconds, error)
        except Exception as error:  # whatever a model raises
            self._failed(self._clock() - began, error)
            instead = ask_champion()
        else:
            self._counters.canary.labels("answered").inc()
            self._judge(self._clock() - began, failed=False)
            parameters = {**found.reply.parameters, "role": ROLE}
            return Routed(replace(found, reply=replace(found.reply, parameters=parameters)), live, ROLE, share)
        return Routed(instead, champion, champion.alias, share, fell_back=True)

    def _failed(self, seconds: float, error: Exception) -> None:
        self._counters.canary.labels("failed").inc()
        sentence = str(error) or type(error).__name__
        if sentence not in self._said:  # said once, however often it happens
            self._said.add(sentence)
            unknown = None if isinstance(error, RefusedError) else error
            log.warning("the canary cannot answer, the champion does: %s", sentence, exc_info=unknown)
        self._judge(seconds, failed=True)

    def _judge(self, seconds: float, *, failed: bool) -> None:
        if not self._rule.note(seconds, failed=failed):
            return
        stop = self.options.stop
        why = (
            f"more than {stop.errors:.2%} of its questions failed"
            if self._rule.tripped == "errors"
            else f"more than {SLOWEST:.0%} of its answers took longer than {stop.p99.total_seconds() * 1000:.0f} ms"
        )
        self._counters.canary_stops.labels(self.stopped).inc()
        self._counters.canary_stopped.set(1)
        log.error(
            "the canary of %s is given up, everybody gets the champion until the service starts again: within %.0f s "
            "%s", self._service, WINDOW, why, extra={"reason": self.stopped},
        )  # fmt: skip


def _user(question: Question, champion: Live) -> object | None:
    """Return the id of who asks, or None where the question does not tell."""
    tensor = question.tensors.get(champion.reads.declaration.user)
    return tensor.data[0] if tensor is not None and tensor.data else None
