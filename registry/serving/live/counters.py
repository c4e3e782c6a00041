"""What does a service count? Questions, time per step, what was missing, what answers: for Prometheus.

With several processes each writes its counts to files in the folder that `config.MULTIPROCESS` names, and any of them
adds all up when it is asked.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from registry.serving.answers.answer import Answers
    from registry.serving.live.rows import Rows
    from registry.serving.live.version import Live

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0)
_CANDIDATES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


def forget_dead(folder: str) -> None:
    """Drop what processes that are gone said of themselves, such as how many questions wait; what they counted stays.

    Args:
        folder: where the processes of the service keep their counts.
    """
    for path in Path(folder).glob("gauge_live*.db"):
        if (named := re.search(r"_(\d+)\.db$", path.name)) and not _lives(int(named[1])):
            mark_process_dead(int(named[1]), folder)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


@dataclass(frozen=True)
class Counters:
    """The counts of one process."""

    registry: CollectorRegistry
    folder: str | None
    """Where all processes of the service keep their counts; None for one process, which keeps its own."""
    requests: Counter
    seconds: Histogram
    stages: Histogram
    candidates: Histogram
    waiting: Gauge
    rejected: Counter
    version: Gauge
    follow_seconds: Histogram
    follow_failures: Counter
    missing: Counter
    given: Counter
    degraded: Counter
    hits: Counter
    asked: Counter
    age: Gauge
    log_dropped: Counter
    feedback: Counter
    shadow: Counter
    canary: Counter
    canary_stops: Counter
    canary_stopped: Gauge
    memory: Gauge
    explored: Counter

    @classmethod
    def make(cls, folder: str | None = None) -> Counters:
        """Return counts in a registry of their own.

        Args:
            folder: what `MULTIPROCESS` named when Prometheus' client was imported; None for one process.
        """
        own = CollectorRegistry()
        return cls(
            registry=own,
            folder=folder,
            requests=Counter("rankmill_requests", "Questions by status.", ["code", "role"], registry=own),
            seconds=Histogram(
                "rankmill_request_seconds", "Seconds from a question's first byte to its answer.",
                buckets=_SECONDS, registry=own,
            ),
            stages=Histogram(
                "rankmill_stage_seconds", "Seconds of each step of an answer.", ["stage"], buckets=_SECONDS,
                registry=own,
            ),
            candidates=Histogram(
                "rankmill_candidates", "Candidates per question.", buckets=_CANDIDATES, registry=own
            ),
            waiting=Gauge(
                "rankmill_queue_depth", "Questions that are computed or wait.", registry=own,
                multiprocess_mode="livesum",
            ),
            rejected=Counter("rankmill_rejected", "Questions refused, by reason.", ["reason"], registry=own),
            version=Gauge(
                "rankmill_version_info", "1 for what answers.", ["model", "version", "role"], registry=own,
                multiprocess_mode="livemax",
            ),
            follow_seconds=Histogram(
                "rankmill_follow_seconds", "Seconds from seeing a new version to answering with it.",
                buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60), registry=own,
            ),
            follow_failures=Counter(
                "rankmill_follow_failures", "Times that the registry or a version could not be taken.", ["reason"],
                registry=own,
            ),
            missing=Counter(
                "rankmill_feature_missing", "Candidates without a view's values.", ["view", "reason"], registry=own
            ),
            given=Counter("rankmill_feature_given", "Columns of a view that questions gave.", ["view"], registry=own),
            degraded=Counter("rankmill_degraded", "Answers that lack something.", ["reason"], registry=own),
            hits=Counter("rankmill_item_cache_hits", "Items whose features were kept.", registry=own),
            asked=Counter("rankmill_item_cache_asked", "Items whose features were looked for.", registry=own),
            log_dropped=Counter("rankmill_log_dropped", "Answers that the log has no room for.", registry=own),
            feedback=Counter("rankmill_feedback", "Events of feedback.", ["feedback", "state"], registry=own),
            shadow=Counter("rankmill_shadow", "Questions that a shadow was to answer too.", ["state"], registry=own),
            canary=Counter("rankmill_canary", "Questions that a canary was to answer.", ["state"], registry=own),
            canary_stops=Counter(
                "rankmill_canary_stops", "Times that a process gave its canary up.", ["reason"], registry=own
            ),
            canary_stopped=Gauge(
                "rankmill_canary_stopped", "Processes that gave their canary up.", registry=own,
                multiprocess_mode="livesum",
            ),
            explored=Counter(
                "rankmill_explored", "Answers with a bonus of exploring; whether it moved the first place.", ["first"],
                registry=own,
            ),
            memory=Gauge(
                "rankmill_memory_enabled", "1 where the live error memory corrects a task.", ["task"], registry=own,
                multiprocess_mode="livemin",
            ),
            age=Gauge(
                "rankmill_feature_age_seconds", "Seconds since the end of the last materialisation.", registry=own,
                multiprocess_mode="livemax",
            ),
        )  # fmt: skip

    def text(self) -> bytes:
        """Return the counts of all processes as Prometheus reads them."""
        if self.folder is None:
            return generate_latest(self.registry)
        whole = CollectorRegistry()
        MultiProcessCollector(whole, self.folder)
        return generate_latest(whole)

    def stage_clock(self) -> Callable[[str], None]:
        """Return what is told the end of each step, and counts its seconds."""
        last = time.perf_counter()

        def done(name: str) -> None:
            nonlocal last
            now = time.perf_counter()
            self.stages.labels(name).observe(now - last)
            last = now

        return done

    def looked_up(self, rows: Rows) -> None:
        """Count what was missing of a question's rows."""
        self.candidates.observe(rows.table.num_rows)
        self.asked.inc(rows.looked)
        self.hits.inc(rows.kept)
        for (view, reason), count in rows.missing.items():
            self.missing.labels(view, reason).inc(count)
        for view, count in rows.given.items():
            self.given.labels(view).inc(count)

    def explores(self, answers: Answers) -> None:
        """Count an answer whose score held a bonus."""
        if answers.bonus is not None and answers.expected_value is not None and answers.bonus.size:
            moved = answers.expected_value.argmax() != (answers.expected_value - answers.bonus).argmax()
            self.explored.labels("moved" if moved else "same").inc()

    def exchanged(self, before: Live | None, now: Live, seconds: float) -> None:
        """Count a version or memory that took another one's place."""
        self.stands(before, now)
        self.follow_seconds.observe(seconds)

    def gone(self, before: Live) -> None:
        """Count a version that is no more."""
        self.stands(before, None)

    def stands(self, before: Live | None, now: Live | None) -> None:
        """Say which version stands where another one stood."""
        for live, state in ((before, 0), (now, 1)):
            if live is not None:
                self.version.labels(live.name, str(live.pointed.version), live.alias).set(state)

    def remembers(self, tasks: Mapping[str, bool]) -> None:
        """Note by task whether the error memory corrects it."""
        for task, enabled in tasks.items():
            self.memory.labels(task).set(int(enabled))

    def failed(self, reason: str) -> None:
        """Count a failure to find out or open a version, or to learn."""
        self.follow_failures.labels(reason).inc()

    def answered(self, code: int, role: str, seconds: float, degraded: Mapping[str, bool]) -> None:
        """Count an answer."""
        self.requests.labels(str(code), role).inc()
        self.seconds.observe(seconds)
        for reason, is_so in degraded.items():
            if is_so:
                self.degraded.labels(reason).inc()
