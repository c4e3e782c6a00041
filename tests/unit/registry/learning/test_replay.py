"""Is what a service has learned what a replay of the same rows gives, to the bit, however the log came to it?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.memory.error_memory import Memory
from registry.memory.prequential import EPOCH, Stream, replay, slot_bounds
from registry.memory.sketch import Sketch
from registry.memory.spec import SketchStore
from registry.serving.learning.learner import Learner
from registry.serving.live.version import Live
from tests.unit.registry.learning.log_world import (
    AFTER,
    BASE,
    START,
    TASKS,
    WEIGHT,
    Log,
    Row,
    Told,
    key_of,
    labels_of,
    memory_of,
    version,
    with_base,
)

LATER = START + timedelta(minutes=90)
"""When all is over."""
SEGMENT = timedelta(seconds=60)


class Quiet:
    def remembers(self, tasks: dict[str, bool]) -> None:
        """Nothing is kept."""

    def failed(self, reason: str) -> None:
        raise AssertionError(reason)


def learner_of(live: Live | Callable[[], Live], log: Log) -> Learner:
    answering = live if callable(live) else lambda: live
    return Learner(
        answering, log.questions, log.feedback, after=AFTER, refresh=SEGMENT, segment=SEGMENT, observer=Quiet()
    )


@pytest.fixture(scope="module")
def opened(model_of: Callable[[str], Path]) -> Live:
    return version(model_of("esmm"))


def replayed(
    memory: Memory, labelled: list[tuple[Row, int, int]], decay: float = 1.0, last: int | None = None
) -> Sketch:
    """Return the store after a replay of rows in order of time; from row `last` on they are one slot."""
    ordered = sorted(labelled, key=lambda one: (one[0].time, one[0].request, one[0].item))
    stream = Stream(
        times=np.array([(row.time - EPOCH) // timedelta(microseconds=1) for row, *_ in ordered]),
        users=np.array([row.user for row, *_ in ordered]),
        keys=np.concatenate([key_of(memory, row) for row, *_ in ordered]),
        labels={task: np.array([found[place] for found in ordered], float) for place, task in enumerate(TASKS, 1)},
        predicted={"like": np.array([row.like for row, *_ in ordered]),
                   "love": np.array([row.like / 2 for row, *_ in ordered])},
    )  # fmt: skip
    assert isinstance(memory.store, Sketch)
    store = memory.store.fresh()
    bounds = slot_bounds(stream.times, 3)
    if last is not None:
        bounds = slot_bounds(stream.times[:last], 3)
        bounds = (*bounds[:-1], (bounds[-1][0], len(ordered)))
    replay(
        stream,
        store,
        TASKS,
        bounds=bounds,
        read_out=memory.header.read_out,
        grid=(0.0, WEIGHT),
        funnel=True,
        decay=decay,
    )
    return store


def assert_same(live: Live, expected: Sketch) -> None:
    assert live.memory is not None
    for name, sums in live.memory.store.tensors().items():
        np.testing.assert_array_equal(sums, expected.tensors()[name], err_msg=name)


ITEMS = st.integers(1, 6)
ROWS = st.lists(
    st.builds(
        Row,
        request=st.sampled_from([f"q{number}" for number in range(12)]),
        item=ITEMS,
        minute=st.integers(-30, 420).map(lambda tenth: tenth / 10),
        user=st.integers(1, 3),
        like=st.floats(0.01, 0.99),
        digest=st.sampled_from(["digest1"] * 5 + ["another"]),
        role=st.sampled_from(["champion"] * 5 + ["shadow", "canary"]),
    ),
    min_size=1,
    max_size=24,
    unique_by=lambda row: (row.request, row.item),
)


@st.composite
def logs(draw: Any) -> tuple[list[Row], list[Told], list[Any]]:
    """Draw rows, what was told of them, and in which pieces and order they appear, with looks in between."""
    rows = draw(ROWS)
    # Rows of one question are of one moment; some questions are asked a second time.
    moments = {row.request: row.minute for row in rows}
    rows = [replace(row, minute=moments[row.request]) for row in rows]
    again = draw(st.lists(st.sampled_from(rows), max_size=3, unique_by=lambda row: row.request))
    rows += [replace(row, minute=row.minute + draw(st.sampled_from([-2.0, 0.5, 11.0]))) for row in again]
    told = []
    for row in draw(st.lists(st.sampled_from(rows), max_size=20)):
        minute = row.minute + draw(st.sampled_from([0.0, 3.0, 9.5, 10.0, 12.0]))
        told.append(
            Told(row.request, row.item, draw(st.sampled_from(TASKS)), minute, draw(st.sampled_from([0, 0, 1.0])))
        )
    pieces: list[Any] = []
    by_question: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        by_question.setdefault((row.request, row.minute), []).append(row)
    questions = draw(st.permutations([*by_question.values()]))
    while questions:
        size = draw(st.integers(1, 4))
        pieces.append([row for question in questions[:size] for row in question])
        questions = questions[size:]
    pieces += [[one] for one in told] + [[one] for one in told[::3]]  # some are sent twice
    pieces += draw(st.lists(st.integers(0, 55).map(float), max_size=4))  # looks; a segment may be an hour late
    return rows, told, draw(st.permutations(pieces))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(logs(), st.sampled_from([256 << 20, 1]))
def test_whatever_the_order_it_is_the_replay(
    opened: Live, drawn: tuple[list[Row], list[Told], list[Any]], room: int
) -> None:
    """With room for all slots, and for one, the older ones added up."""
    rows, told, pieces = drawn
    memory = opened.memory
    assert memory is not None
    labelled = labels_of(rows, told, LATER)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr("registry.serving.learning.live_memory.ROOM", room)
        log = Log.below(Path(folder), memory.header.key.hidden)
        learner, latest = learner_of(opened, log), 0.0
        for piece in pieces:
            if isinstance(piece, float):
                latest = max(latest, piece)
                learner.step(START + timedelta(minutes=latest))
            elif isinstance(piece[0], Told):
                log.told(*piece)
            else:
                log.answered(*sorted(piece, key=lambda row: row.minute))
        learner.step(LATER)
        restarted = learner_of(opened, log)
        restarted.step(LATER)
        if not labelled:
            assert learner.applied(opened) is opened
            return
        expected = replayed(memory, labelled)
        assert_same(learner.applied(opened), expected)
        assert_same(restarted.applied(opened), expected)


def steady(minutes: int, begin: float = 0.0) -> list[Row]:
    """Return three rows a minute."""
    rng = np.random.default_rng(5)
    return [
        Row(f"q{minute}", item, begin + minute, int(rng.integers(1, 4)), float(rng.uniform(0.1, 0.9)), earlier=0.5)
        for minute in range(minutes)
        for item in (1, 2, 3)
    ]


def clicks(rows: list[Row]) -> list[Told]:
    return [
        Told(row.request, row.item, "like", row.minute + 2) for row in rows if (row.item + int(row.minute)) % 4 == 0
    ]


def written(folder: Path, live: Live, rows: list[Row], told: list[Told]) -> Log:
    """Write rows in segments of two minutes."""
    assert live.memory is not None
    log = Log.below(folder, live.memory.header.key.hidden)
    for start in range(0, len(rows), 6):
        log.answered(*rows[start : start + 6])
    log.told(*told)
    return log


def test_a_base_that_forgets_is_added_to_as_if_its_last_slot_went_on(opened: Live, tmp_path: Path) -> None:
    """With ρ below 1 sums are no longer exact: equal up to rounding."""
    before, since = steady(60, -60), steady(40)
    memory = memory_of(opened, decay=0.3)
    past = [(row, int(row.item == 1), 0) for row in before]
    base = replace(memory, store=replayed(memory, past, 0.3))
    live = with_base(opened, base)
    told = clicks(since)
    learner = learner_of(live, written(tmp_path, live, since, told))
    learner.step(LATER)
    now = learner.applied(live).memory
    expected = replayed(memory, past + labels_of(since, told, LATER), 0.3, last=len(past))
    assert now is not None
    for name, sums in now.store.tensors().items():
        np.testing.assert_allclose(sums, expected.tensors()[name], rtol=1e-12, err_msg=name)
    undecayed = replayed(memory, past + labels_of(since, told, LATER), 1.0)
    assert np.abs(now.store.tensors()["count"] - undecayed.count).max() > 1


@pytest.mark.parametrize("room", [256 << 20, 1], ids=["slots apart", "older slots added up"])
def test_a_newer_base_takes_the_place_of_the_slots_that_it_covers(
    opened: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """It ends within a slot; what came after it stays, and nothing counts twice."""
    monkeypatch.setattr("registry.serving.learning.live_memory.ROOM", room)
    rows = steady(60)
    told = clicks(rows)
    log = written(tmp_path, opened, rows, told)
    answering = [opened]
    learner = learner_of(lambda: answering[0], log)
    learner.step(LATER)
    first = learner.applied(opened)
    assert first.memory is not None and first.pointed.memory == f"{BASE}+12"
    assert_same(first, replayed(first.memory, labels_of(rows, told, LATER)))
    cut = START + timedelta(minutes=32, seconds=10)
    memory = memory_of(opened, until=cut)
    covered = [one for one in labels_of(rows, told, LATER) if one[0].time < cut]
    answering[0] = newer = with_base(opened, replace(memory, store=replayed(memory, covered)), "c" * 64)
    assert learner.applied(newer) is newer, "what was learned for another base is not used"
    learner.step(LATER)
    second = learner.applied(newer)
    assert second.pointed.memory == f"{'c' * 64}+6"
    assert_same(second, replayed(memory, labels_of(rows, told, LATER)))
    restarted = learner_of(newer, log)
    restarted.step(LATER)
    assert restarted.applied(newer).pointed == second.pointed


def test_slots_that_the_base_does_not_touch_are_not_read_again(
    opened: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = steady(60)
    log = written(tmp_path, opened, rows, [])
    answering = [opened]
    learner = learner_of(lambda: answering[0], log)
    learner.step(LATER)
    read: list[str] = []
    honest = type(log.questions).open

    def opening(self: Any, name: str, columns: Any = None) -> Any:
        read.append(name)
        return honest(self, name, columns)

    monkeypatch.setattr(type(log.questions), "open", opening)
    answering[0] = with_base(opened, memory_of(opened, until=START + timedelta(minutes=32)), "c" * 64)
    learner.step(LATER)
    assert 1 <= len(read) <= 4, "the segments of one slot"


def test_a_base_that_hashes_otherwise_begins_anew(opened: Live, tmp_path: Path) -> None:
    rows = steady(20)
    log = written(tmp_path, opened, rows, clicks(rows))
    answering = [opened]
    learner = learner_of(lambda: answering[0], log)
    learner.step(LATER)
    memory = memory_of(opened, SketchStore(arrays=8, bits=4))
    answering[0] = with_base(opened, memory, "c" * 64)
    learner.step(LATER)
    assert_same(learner.applied(answering[0]), replayed(memory, labels_of(rows, clicks(rows), LATER)))
