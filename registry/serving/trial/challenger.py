"""How is a second version asked what the champion is asked? With a follower and features of its own.

Nothing that goes wrong here may reach the champion: a challenger that reads a view which does not exist must not make
its answers lack anything, so the two share no store, no cache and no count of failures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from registry.serving.live.counters import Counters
from registry.serving.live.follow import Follower
from registry.serving.live.lookup import Lookup
from registry.serving.live.rows import Rows
from registry.serving.live.version import Answered, Live, reply
from registry.serving.wire.config import ServingConfig
from registry.serving.wire.protocol import Question


@dataclass(frozen=True, eq=False)
class Challenger:
    """A version that stands behind an alias of its own, if any does."""

    follower: Follower
    """Of its alias, where nothing may be."""
    lookup: Lookup | None
    """The online store as it asks it; None takes what questions give."""

    @property
    def live(self) -> Live | None:
        """What would answer, or None where the alias points nowhere."""
        return self.follower.live

    def start(self) -> None:
        """Begin to follow."""
        if self.lookup is not None:
            self.lookup.start()
        self.follower.start()

    def stop(self) -> None:
        """Follow no more."""
        self.follower.stop()

    def answer(
        self,
        live: Live,
        champion: Live,
        question: Question,
        config: ServingConfig,
        now: datetime,
        *,
        known: Rows | None = None,
        stage: Callable[[str], None] = lambda name: None,
    ) -> Answered:
        """Return what the challenger answers to a question that was asked of the champion.

        Args:
            live: the challenger, read once.
            champion: the version whose inputs the caller knows; what only it reads is left out.
            question: what is asked.
            config: limits and fallbacks.
            now: time of the request where the question does not give one, UTC.
            known: the champion's raw rows, taken as they are; only what they lack is looked up.
            stage: told the name of each step when it is done.

        Raises:
            RefusedError: the question does not fit the challenger.
        """
        return reply(live, narrowed(question, champion, live), self.lookup, config, now, stage, known)


def narrowed(question: Question, champion: Live, challenger: Live) -> Question:
    """Return a question without what only the champion reads, which is no mistake of the caller."""
    foreign = champion.reads.names - challenger.reads.names
    if not foreign & question.tensors.keys():
        return question
    return replace(question, tensors={name: t for name, t in question.tensors.items() if name not in foreign})


@dataclass(frozen=True)
class Beside:
    """Counts what happens to a challenger apart from what happens to the champion."""

    counters: Counters

    def exchanged(self, before: Live | None, now: Live, seconds: float) -> None:
        """Another version took its place."""
        self.counters.stands(before, now)

    def gone(self, before: Live) -> None:
        """It is no more."""
        self.counters.stands(before, None)

    def failed(self, reason: str) -> None:
        """It could not be found out or opened."""
        self.counters.follow_failures.labels(f"challenger_{reason}").inc()
