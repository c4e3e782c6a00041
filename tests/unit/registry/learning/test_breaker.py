"""Is a task whose answers the memory makes worse switched off, it alone, and by every process alike?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from registry.serving.learning.breaker import JUDGED, Breaker
from registry.serving.learning.learner import Learner
from registry.serving.learning.live_memory import SLOT, ClosedRows
from registry.serving.live.counters import Counters
from registry.serving.live.version import Live
from tests.unit.registry.learning.log_world import AFTER, BASE, START, Log, Row, memory_of, version, with_base

LONG = timedelta(hours=1)


@pytest.fixture(scope="module")
def opened(model_of: Callable[[str], Path]) -> Live:
    return version(model_of("esmm"))


def rows(count: int, said: float, slot: int = 0, corrected: bool = True, seed: int = 0) -> ClosedRows:
    """Return rows of rate .2, which the base knows; like is answered `said`, love as the base does it."""
    rng = np.random.default_rng(seed)
    label = (np.arange(count) % 5 == 0).astype(float)
    base = np.full(count, 0.2)
    return ClosedRows(
        at=np.sort(slot * SLOT + rng.integers(0, SLOT, count)),
        times=np.zeros(count, np.int64),
        requests=rng.integers(0, 2**63, count).astype(np.uint64),
        keys=np.zeros((count, 1)),
        labels={"like": label, "love": label},
        base={"like": base, "love": base},
        answered={"like": np.full(count, said), "love": base},
        corrected=np.full(count, corrected),
    )


def judged(opened: Live, *slots: ClosedRows, until: int = 9) -> frozenset[str]:
    assert opened.memory is not None
    breaker = Breaker(opened.memory.header)
    for some in slots:
        breaker.take(some)
    breaker.close(until)
    return breaker.off


def test_a_task_that_loses_is_switched_off_and_no_other(opened: Live) -> None:
    assert judged(opened, rows(JUDGED, 0.3)) == {"like"}
    assert judged(opened, rows(JUDGED, 0.2)) == set(), "what changes nothing does no harm"


def test_fewer_rows_and_answers_of_another_memory_judge_nothing(opened: Live) -> None:
    assert judged(opened, rows(JUDGED - 1, 0.3)) == set()
    assert judged(opened, rows(JUDGED, 0.3, corrected=False)) == set()
    assert judged(opened, rows(JUDGED, 0.3, slot=9)) == set(), "its slot is not closed"


def test_only_the_newest_rows_are_judged_and_what_is_off_stays_off(opened: Live) -> None:
    good = rows(JUDGED, 0.2, slot=2, seed=2)
    assert judged(opened, rows(JUDGED, 0.3, slot=1), good) == {"like"}
    assert judged(opened, rows(JUDGED - 1, 0.3, slot=1), good) == set()
    assert judged(opened, rows(JUDGED, 0.3, slot=3), good) == {"like"}


def test_no_order_of_reading_is_seen(opened: Live) -> None:
    """Of one slot the oldest rows are bad and the newest, as many as are judged, are good."""
    whole = rows(JUDGED + 2000, 0.2)
    said = np.where(np.arange(len(whole)) < 2000, 0.9, 0.2)
    whole = replace(whole, answered={**whole.answered, "like": said})
    parts = [whole.where(np.arange(len(whole)) // 500 == part) for part in range(len(whole) // 500)]
    assert judged(opened, *parts) == judged(opened, *reversed(parts)) == set()
    worse = replace(whole, answered={**whole.answered, "like": said[::-1]})
    parts = [worse.where(np.arange(len(worse)) // 500 == part) for part in range(len(worse) // 500)]
    assert judged(opened, *parts) == judged(opened, *reversed(parts)) == {"like"}


def learned(opened: Live, folder: Path, said: float) -> tuple[Live, Counters]:
    """Return what answers after more than enough rows with these answers, and what was counted."""
    assert opened.memory is not None
    log, counters = Log.below(folder, opened.memory.header.key.hidden), Counters.make()
    for question in range(JUDGED // 100 + 10):
        log.answered(*(Row(f"q{question}", item, question / 4, like=0.2, answered=said) for item in range(100)))
    learner = Learner(
        lambda: opened, log.questions, log.feedback, after=AFTER, refresh=AFTER, segment=timedelta(minutes=1),
        observer=counters,
    )  # fmt: skip
    learner.step(START + LONG)
    return learner.applied(opened), counters


def test_what_is_switched_off_keeps_the_answers_of_the_model_until_the_next_refresh(
    opened: Live, tmp_path: Path
) -> None:
    """Nobody clicks, and the memory is said to have promised more."""
    now, counters = learned(opened, tmp_path, 0.4)
    assert now.memory is not None and not now.memory.header.enabled
    assert 'rankmill_memory_enabled{task="like"} 0.0' in counters.text().decode()
    helped, counters = learned(opened, tmp_path / "other", 0.1)
    assert helped.memory is not None and helped.memory.header.tasks["like"].enabled
    assert 'rankmill_memory_enabled{task="like"} 1.0' in counters.text().decode()


def test_a_refresh_switches_on_again(opened: Live, tmp_path: Path) -> None:
    assert opened.memory is not None
    answering = [opened]
    log = Log.below(tmp_path, opened.memory.header.key.hidden)
    for question in range(JUDGED // 100 + 10):
        log.answered(*(Row(f"q{question}", item, question / 4, like=0.2, answered=0.4) for item in range(100)))
    learner = Learner(
        lambda: answering[0], log.questions, log.feedback, after=AFTER, refresh=AFTER, segment=timedelta(minutes=1),
        observer=Counters.make(),
    )  # fmt: skip
    learner.step(START + LONG)
    answering.append(with_base(opened, memory_of(opened, until=START + timedelta(minutes=3)), "c" * 64))
    assert learner.applied(opened).pointed.memory.startswith(BASE)
    answering.pop(0)
    learner.step(START + LONG)
    now = learner.applied(answering[0]).memory
    assert now is not None and now.header.enabled
