"""Does a memory that learns as it answers stay calibrated where nothing changes? If clicks are as old as other rows.

Every impression is clicked with the same chance, within minutes, and the base knows it. What is learned when it is
known, a click at once and its absence an hour later, makes the newest rows look clicked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from registry.memory.error_memory import Memory
from registry.memory.sketch import Sketch
from registry.memory.spec import SketchStore
from registry.metrics import pcoc
from registry.serving.learning.learner import Learner
from registry.serving.live.counters import Counters
from registry.serving.live.version import Live
from tests.unit.registry.learning.log_world import (
    AFTER,
    START,
    Log,
    Row,
    Told,
    hidden_of,
    key_of,
    memory_of,
    version,
    with_base,
)

RATE, WEIGHT = 0.1, 0.3
STEPS, SHOWN = 120, 80
"""Slots of five minutes, and impressions in each."""
Array = np.ndarray


@pytest.fixture(scope="module")
def live(model_of: Callable[[str], Path]) -> Live:
    opened = version(model_of("esmm"))
    memory = memory_of(opened, SketchStore(arrays=16, bits=4))
    tasks = {name: task.model_copy(update={"weight": WEIGHT}) for name, task in memory.header.tasks.items()}
    return with_base(opened, replace(memory, header=memory.header.model_copy(update={"tasks": tasks})))


def impressions() -> tuple[list[list[Row]], Array, Array]:
    """Return rows by step, whether each is clicked, exactly a tenth of them, and after how many minutes."""
    rng = np.random.default_rng(7)
    clicked = rng.permutation(STEPS * SHOWN) < RATE * STEPS * SHOWN
    steps = [
        [Row(f"s{step}", step * SHOWN + place, 5.0 * step, place % 40, RATE) for place in range(SHOWN)]
        for step in range(STEPS)
    ]
    return steps, clicked, rng.uniform(0, 9, STEPS * SHOWN)


def answered(memory: Memory, rows: list[Row]) -> Array:
    hidden = np.stack([hidden_of(row, memory.header.key.hidden) for row in rows])
    base = {"like": np.full(len(rows), RATE), "love": np.full(len(rows), RATE / 2)}
    return memory.compensate(base, hidden, pa.table({"user_id": [row.user for row in rows]}))["like"]


def test_what_is_learned_when_its_time_is_over_keeps_the_level(live: Live, tmp_path: Path) -> None:
    assert live.memory is not None
    steps, clicked, delay = impressions()
    log = Log.below(tmp_path, live.memory.header.key.hidden)
    learner = Learner(
        lambda: live, log.questions, log.feedback, after=AFTER, refresh=AFTER, segment=timedelta(minutes=1),
        observer=Counters.make(),
    )  # fmt: skip
    scores, told = [], []
    for step, rows in enumerate(steps):
        now = START + timedelta(minutes=5 * step)
        due, told = [one for one in told if one.received <= now], [one for one in told if one.received > now]
        log.told(*due)
        learner.step(now)
        memory = learner.applied(live).memory
        assert memory is not None
        scores.append(answered(memory, rows))
        log.answered(*rows)
        told += [Told(row.request, row.item, "like", row.minute + delay[row.item]) for row in rows if clicked[row.item]]
    level = pcoc(clicked.astype(float), np.concatenate(scores))
    assert level is not None and 0.95 <= level <= 1.05
    assert np.concatenate(scores[STEPS // 2 :]).std() > 1e-4, "the memory is read"


def test_what_is_learned_when_it_is_known_does_not(live: Live) -> None:
    assert live.memory is not None and isinstance(live.memory.store, Sketch)
    steps, clicked, delay = impressions()
    store, hour = live.memory.store.fresh(), 12
    memory = replace(live.memory, store=store)
    scores = []
    for step, rows in enumerate(steps):
        minute = 5 * step
        scores.append(answered(memory, rows))
        recent = [row for some in steps[max(0, step - 2) : step] for row in some if clicked[row.item]]
        news = [row for row in recent if minute - 5 <= row.minute + delay[row.item] < minute]
        news += [row for row in steps[step - hour] if not clicked[row.item]] if step >= hour else []
        if news:
            label = {task: clicked[[row.item for row in news]].astype(float) for task in ("like", "love")}
            base = {"like": np.full(len(news), RATE), "love": np.full(len(news), RATE / 2)}
            store.write(np.concatenate([key_of(memory, row) for row in news]), label, base)
    level = pcoc(clicked.astype(float), np.concatenate(scores))
    assert level is not None and level > 1.05
