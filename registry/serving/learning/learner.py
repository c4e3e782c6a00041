"""Which memory corrects the next answer? A thread that learns from the log, and hands the merged memory to questions.

A question reads one attribute: what is in it belongs to exactly the version and base that it was made for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from features.ground.errors import RankmillError
from registry.memory.sketch import Sketch
from registry.serving.learning.lessons import Lessons
from registry.serving.learning.log_tail import LogTail
from registry.serving.live.version import Live
from registry.serving.log.segments import Segments

log = logging.getLogger("rankmill.serving")


class Observer(Protocol):
    """Who is told what becomes of the memory."""

    def remembers(self, tasks: dict[str, bool]) -> None:
        """By task, whether the memory corrects it."""
        ...

    def failed(self, reason: str) -> None:
        """It could not be learned; `reason` is a word."""
        ...


class Learner:
    """Holds the memory that has learned since its base."""

    def __init__(
        self,
        answering: Callable[[], Live | None],
        questions: Segments,
        feedback: Segments,
        *,
        after: timedelta,
        refresh: timedelta,
        segment: timedelta,
        observer: Observer,
    ) -> None:
        """Learn for whatever answers.

        Args:
            answering: returns the version that answers, with its base memory.
            questions: segments of answers.
            feedback: segments of events.
            after: how long after an answer feedback counts.
            refresh: how often the log is looked at.
            segment: the longest span of one segment's rows.
            observer: told about tasks and failures.
        """
        self._answering, self._questions, self._feedback = answering, questions, feedback
        self._after, self._segment, self._refresh, self._observer = after, segment, refresh, observer
        self._lessons: Lessons | None = None
        self._made: tuple[Live, Live] | None = None
        self._known: tuple[Lessons, int, frozenset[str]] | None = None
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def applied(self, live: Live) -> Live:
        """Return a version with what its memory has learned since; the same where that is nothing yet."""
        made = self._made
        return made[1] if made is not None and made[0] is live else live

    def start(self) -> None:
        """Learn in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Learn no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)

    def step(self, now: datetime) -> None:
        """Look at the log once, at a moment, UTC."""
        live = self._answering()
        if live is None or live.memory is None:
            self._lessons, self._made = None, None
            return
        header = live.memory.header
        if not isinstance(live.memory.store, Sketch):
            self._once(
                f"the error memory of {live.name} v{live.pointed.version} keeps rows, not sums, so it learns at its "
                "refreshes alone: give refresh_error_memory a store of kind sketch, or leave memory.live out"
            )
        if not isinstance(live.memory.store, Sketch) or not header.enabled:
            self._lessons, self._made = None, None
            self._observer.remembers({name: task.enabled for name, task in header.tasks.items()})
            return
        lessons = self._lessons_for(live)
        if not lessons.look(now):
            lessons = self._begun(live)
            lessons.look(now)
        self._lessons = lessons
        self._hand_over(live, lessons)

    def _lessons_for(self, live: Live) -> Lessons:
        held = self._lessons
        if held is not None and held.live is live:
            return held
        same = held is not None and held.live.pointed.digest == live.pointed.digest
        rebased = held.rebased(live) if held is not None and same else None
        return rebased or self._begun(live)

    def _begun(self, live: Live) -> Lessons:
        tail = LogTail(self._questions, self._feedback, after=self._after, segment=self._segment)
        return Lessons(live, tail, after=self._after, segment=self._segment)

    def _hand_over(self, live: Live, lessons: Lessons) -> None:
        known = lessons, lessons.memory.changes, lessons.breaker.off
        if self._known == known:
            return
        memory = lessons.memory.memory(lessons.breaker.off)
        if lessons.memory.count or lessons.breaker.off:
            pointed = live.pointed.model_copy(update={"memory": f"{live.pointed.memory}+{lessons.memory.count}"})
            self._made = (live, replace(live, memory=memory, pointed=pointed))
        else:
            self._made = (live, live)
        self._known = known
        self._observer.remembers({name: task.enabled for name, task in memory.header.tasks.items()})

    def _once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning("%s", sentence)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.step(datetime.now(UTC))
            except Exception as error:  # whatever a store raises: answers go on with what was learned
                self._observer.failed("memory")
                said = str(error) if isinstance(error, RankmillError) else f"{type(error).__name__}: {error}"
                self._once(f"the error memory cannot learn from the log: {said}")
            self._stop.wait(self._refresh.total_seconds())
