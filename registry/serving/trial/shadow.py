"""What would the challenger have answered? The same question again, after the answer is sent, by a thread that may lag.

The champion's answer is on its way before a copy is made, and a copy that would have to wait is dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from registry.serving.live.counters import Counters
from registry.serving.live.rows import Rows
from registry.serving.live.version import Live
from registry.serving.log.segments import SHADOW
from registry.serving.log.served_log import kept
from registry.serving.log.served_rows import Entry
from registry.serving.trial.challenger import Challenger
from registry.serving.wire.config import ServingConfig, Shadow
from registry.serving.wire.protocol import Question

WAITING = 4
"""Questions that may wait for the thread."""
log = logging.getLogger("rankmill.serving")


@dataclass(frozen=True)
class Copy:
    """A question that the champion has answered."""

    request: str
    """Id of the question."""
    at: datetime
    """When it was answered, UTC."""
    champion: Live
    question: Question
    rows: Rows
    """The champion's raw rows, one per candidate."""
    propensity: float


class ShadowThread:
    """Asks the challenger again what the champion has answered, one question after the other."""

    def __init__(
        self,
        challenger: Challenger,
        options: Shadow,
        config: ServingConfig,
        take: Callable[[Entry], None],
        counters: Counters,
    ) -> None:
        """Prepare the thread of one process.

        Args:
            challenger: the other version.
            options: which questions it gets.
            config: limits and fallbacks.
            take: keeps what it answers.
            counters: told what became of each copy.
        """
        self.challenger, self.options = challenger, options
        self._config, self._take, self._states = config, take, counters.shadow
        # What the log would not keep is asked for nothing; both go by the same hash.
        self._share = min(options.share, config.log.share if config.log is not None else 1.0)
        self._waiting: queue.Queue[Copy | None] = queue.Queue(WAITING)
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to take copies."""
        self._thread.start()

    def stop(self) -> None:
        """Score what waits, and end."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(timeout=10)

    def wants(self, request: str) -> bool:
        """Return whether a question is in the share that the challenger is asked again."""
        return kept(request, self._share)

    def offer(self, copy: Copy) -> None:
        """Take a copy if there is room; never waits."""
        if self.challenger.live is None:
            self._states.labels("absent").inc()
            return
        try:
            self._waiting.put_nowait(copy)
        except queue.Full:
            self._states.labels("dropped").inc()

    def _run(self) -> None:
        while (copy := self._waiting.get()) is not None:
            try:
                self._states.labels("scored" if self._score(copy) else "absent").inc()
            except Exception as error:  # whatever a model raises: nobody waits for its answer
                self._states.labels("failed").inc()
                sentence = str(error) or type(error).__name__
                if sentence not in self._said:  # said once, however often it happens
                    self._said.add(sentence)
                    log.warning("the shadow cannot answer: %s", sentence)

    def _score(self, copy: Copy) -> bool:
        live = self.challenger.live
        if live is None:
            return False
        whole = replace(copy.question, outputs=())
        found = self.challenger.answer(live, copy.champion, whole, self._config, copy.at, known=copy.rows)
        self._take(
            Entry(
                copy.request, copy.at, live.pointed, SHADOW, found.rows.table, found.answers, (), live.reads.told,
                propensity=copy.propensity, shared=found.rows.shared,
            )
        )  # fmt: skip
        return True
