"""Does what was learned reach exactly the answers that it is for, and does nothing that goes wrong reach any?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from registry.memory.spec import ExactStore
from registry.serving.learning.learner import Learner
from registry.serving.live.version import Live
from registry.serving.log.segments import Segments
from tests.unit.registry.learning.log_world import AFTER, BASE, START, Log, Row, memory_of, version, with_base

LATER = START + timedelta(minutes=30)


class Told:
    def __init__(self) -> None:
        self.tasks: dict[str, bool] = {}
        self.failures: list[str] = []

    def remembers(self, tasks: dict[str, bool]) -> None:
        self.tasks = tasks

    def failed(self, reason: str) -> None:
        self.failures.append(reason)


@pytest.fixture(scope="module")
def opened(model_of: Callable[[str], Path]) -> Live:
    return version(model_of("esmm"))


@pytest.fixture
def log(opened: Live, tmp_path: Path) -> Log:
    assert opened.memory is not None
    made = Log.below(tmp_path, opened.memory.header.key.hidden)
    made.answered(Row("a", 1, 1.0), Row("a", 2, 1.0), Row("b", 1, 7.0))
    return made


def learner_of(answering: Callable[[], Live | None], log: Log, told: Told | None = None) -> Learner:
    return Learner(
        answering, log.questions, log.feedback, after=AFTER, refresh=timedelta(seconds=1),
        segment=timedelta(minutes=1), observer=told or Told(),
    )  # fmt: skip


def test_only_the_version_and_base_that_it_was_learned_for_get_it(opened: Live, log: Log) -> None:
    told = Told()
    learner = learner_of(lambda: opened, log, told)
    assert learner.applied(opened) is opened
    learner.step(LATER)
    now = learner.applied(opened)
    assert now.pointed.memory == f"{BASE}+2" and now.pointed.short_memory == f"{BASE[:12]}+2"
    assert now.memory is not None and now.memory.store.rows == 3
    assert told.tasks == {"like": True, "love": True}
    for other in (replace(opened, pointed=opened.pointed), with_base(opened, memory_of(opened), "c" * 64)):
        assert learner.applied(other) is other
    learner.step(LATER)
    assert learner.applied(opened) is now, "nothing new, nothing made"


def test_what_was_handed_out_never_changes(opened: Live, log: Log) -> None:
    learner = learner_of(lambda: opened, log)
    learner.step(LATER)
    now = learner.applied(opened).memory
    log.answered(Row("c", 1, 8.0))
    learner.step(LATER)
    later = learner.applied(opened).memory
    assert now is not None and later is not None and opened.memory is not None
    assert (opened.memory.store.rows, now.store.rows, later.store.rows) == (0, 3, 4)


def test_a_version_without_a_memory_or_with_all_tasks_off_learns_nothing(opened: Live, log: Log) -> None:
    told = Told()
    answering: list[Live | None] = [None, replace(opened, memory=None)]
    answering.append(with_base(opened, memory_of(opened, like=False, love=False)))
    for live in answering:
        learner = learner_of(lambda live=live: live, log, told)
        learner.step(LATER)
        assert live is None or learner.applied(live) is live
    assert told.tasks == {"like": False, "love": False}


def test_a_memory_that_keeps_rows_is_read_only_and_that_is_said_once(
    opened: Live, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    live = with_base(opened, memory_of(opened, ExactStore()))
    learner = learner_of(lambda: live, log)
    logging.getLogger("rankmill").propagate = True
    with caplog.at_level(logging.WARNING, "rankmill.serving"):
        learner.step(LATER)
        learner.step(LATER)
    assert learner.applied(live) is live
    assert [record.message for record in caplog.records] == [
        "the error memory of shop v1 keeps rows, not sums, so it learns at its refreshes alone: give "
        "refresh_error_memory a store of kind sketch, or leave memory.live out"
    ]


def test_a_log_that_lacks_what_keys_are_made_of_teaches_nothing_and_says_so(
    opened: Live, log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = Log.below(tmp_path / "bare", log.width)
    for name in log.questions.names(START, LATER):
        bare.questions.write(log.questions.open(name).drop_columns(["user_id"]), START)
    logging.getLogger("rankmill").propagate = True
    learner = learner_of(lambda: opened, bare)
    with caplog.at_level(logging.WARNING, "rankmill.serving"):
        learner.step(LATER)
        learner.step(LATER)
    assert learner.applied(opened) is opened
    assert [record.message for record in caplog.records] == [
        "the log has no user_id, so answers teach the error memory nothing: keep it"
    ]


def test_a_damaged_segment_is_left_out_and_the_others_are_learned(
    opened: Live, log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = log.questions.names(START, LATER)[0]
    log.answered(Row("c", 1, 8.0))
    (tmp_path / "questions" / name).write_bytes(b"no parquet")
    learner = learner_of(lambda: opened, log)
    for _ in range(2):
        learner.step(LATER)
    now = learner.applied(opened).memory
    assert now is not None and now.store.rows == 1
    assert caplog.text.count("cannot be read and is left out") == 1


def test_a_store_that_is_gone_leaves_what_was_learned_and_is_read_when_it_is_back(
    opened: Live, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    learner = learner_of(lambda: opened, log, told)
    learner.step(LATER)
    now = learner.applied(opened)
    log.answered(Row("c", 1, 8.0), Row("d", 1, 8.0))

    def gone(*_: object) -> None:
        raise OSError("the store is gone")

    monkeypatch.setattr(Segments, "open", gone)
    learner.start()
    for _ in range(1200):
        if told.failures:
            break
        time.sleep(0.05)
    learner.stop()
    assert learner.applied(opened) is now and told.failures[0] == "memory"
    monkeypatch.undo()
    learner.step(LATER)
    later = learner.applied(opened).memory
    assert later is not None and later.store.rows == 5
