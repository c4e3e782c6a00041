"""Does a memory come back as it was written, only to its own champion, and only unharmed?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.declaration import Window
from features.ground.errors import BadInputError, MissingError
from registry.memory.error_memory import (
    HEADER,
    TENSORS,
    Memory,
    MemoryHeader,
    TaskCompensation,
    open_memory,
    read_header,
)
from registry.memory.keys import row_keys
from registry.memory.spec import ExactStore, KeySpec, ReadOut, SketchStore
from registry.memory.stores import empty_store, fingerprint

CHAMPION = "a" * 64
ON = TaskCompensation(weight=0.5, base_log_loss=0.6, log_loss=0.5, enabled=True)
OFF = TaskCompensation(weight=0.5, base_log_loss=0.6, log_loss=0.7, enabled=False)


SKETCH = SketchStore(arrays=8, bits=5)
EXACT = ExactStore(neighbours=20, capacity=150, threshold=0.1)
both = pytest.mark.parametrize("choice", [SKETCH, EXACT], ids=["sketch", "exact"])


def hidden_rows(count: int, seed: int) -> tuple[np.ndarray, pa.Table]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 6)).astype(np.float32), pa.table({"user_id": rng.integers(0, 9, count)})


def memory(
    rows: int = 200,
    tasks: dict[str, TaskCompensation] | None = None,
    funnel: bool = True,
    choice: SketchStore | ExactStore = SKETCH,
) -> Memory:
    rng = np.random.default_rng(0)
    key = KeySpec(kind="hidden_user", hidden=6)
    store = empty_store(choice, key.width, 0, ("like", "love"))
    hidden, users = hidden_rows(rows, 1)
    centre = np.linspace(-1, 1, 6)
    if rows:
        label = {task: (rng.random(rows) < 0.5).astype(float) for task in store.tasks}
        store.write(row_keys(key, hidden, centre, users), label, {task: rng.random(rows) for task in store.tasks})
    header = MemoryHeader(
        model="movielens_ranker",
        version=3,
        ranker_digest=CHAMPION,
        feedback=("like", "love"),
        funnel=funnel,
        key=key,
        store=choice,
        seed=0,
        projections=fingerprint(choice, key.width, 0),
        read_out=ReadOut(),
        tasks=tasks or {"like": ON, "love": ON},
        covers=Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC)),
        rows=rows,
        stored=store.rows,
        slots=10,
    )
    return Memory(header=header, store=store, centre=centre)


def answers(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    like, given = rng.random(count), rng.random(count)
    return {"like": like, "love": like * given, "love_given_like": given}


@both
def test_a_memory_answers_alike_after_a_round_trip_and_its_bytes_repeat(
    tmp_path: Path, choice: SketchStore | ExactStore
) -> None:
    original = memory(choice=choice)
    original.save(tmp_path / "one")
    memory(choice=choice).save(tmp_path / "two")
    for name in (HEADER, TENSORS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    opened = open_memory(tmp_path / "one", CHAMPION)
    hidden, users = hidden_rows(50, 2)
    before, after = original.compensate(answers(50), hidden, users), opened.compensate(answers(50), hidden, users)
    for task in before:
        assert np.array_equal(before[task], after[task])
    assert not np.array_equal(after["like"], answers(50)["like"])
    assert np.array_equal(after["love_given_like"], answers(50)["love_given_like"])
    assert (after["love"] <= after["like"]).all()


def test_switched_off_tasks_keep_the_base_answer() -> None:
    hidden, users = hidden_rows(50, 2)
    base = answers(50)
    off = memory(tasks={"like": OFF, "love": OFF})
    assert not off.header.enabled
    for task, values in off.compensate(base, hidden, users).items():
        assert np.array_equal(values, base[task])
    half = memory(tasks={"like": ON, "love": OFF}, funnel=False)
    assert half.header.enabled
    after = half.compensate(base, hidden, users)
    assert np.array_equal(after["love"], base["love"])
    assert not np.array_equal(after["like"], base["like"])


@both
def test_an_empty_memory_is_the_base_model(choice: SketchStore | ExactStore) -> None:
    hidden, users = hidden_rows(50, 2)
    base = answers(50)
    for task, values in memory(rows=0, choice=choice).compensate(base, hidden, users).items():
        assert np.array_equal(values, base[task])


@both
def test_another_champion_may_not_read_it(tmp_path: Path, choice: SketchStore | ExactStore) -> None:
    memory(choice=choice).save(tmp_path)
    with pytest.raises(BadInputError, match=r"belongs to ranker aaaaaaaaaaaa .*version 3.*run refresh_error_memory"):
        open_memory(tmp_path, "b" * 64)


@both
def test_tampering_is_noticed(tmp_path: Path, choice: SketchStore | ExactStore) -> None:
    memory(choice=choice).save(tmp_path)
    content = bytearray((tmp_path / TENSORS).read_bytes())
    content[-1] ^= 1
    (tmp_path / TENSORS).write_bytes(content)
    with pytest.raises(BadInputError, match="changed since it was written"):
        open_memory(tmp_path, CHAMPION)
    (tmp_path / TENSORS).write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInputError, match="changed since it was written"):
        open_memory(tmp_path, CHAMPION)
    (tmp_path / TENSORS).unlink()
    with pytest.raises(MissingError, match=r"memory\.safetensors is missing"):
        open_memory(tmp_path, CHAMPION)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("store", "arrays"), 4, "its header says"),
        (("seed",), 1, "projections"),
        (("key", "hidden"), 5, "its header says"),
        (("stored",), 199, "holds 200 rows"),
        (("rows",), "many", "not the header"),
        (("store", "kind"), "lsh", "not the header"),
        (("exact", "stored"), 149, "its header says"),
        (("exact", "key", "user_weight"), -1, "not the header"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    memory(choice=EXACT if path[0] == "exact" else SKETCH).save(tmp_path)
    path = path[path[0] == "exact" :]
    header = json.loads((tmp_path / HEADER).read_text())
    inner = header
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (tmp_path / HEADER).write_text(json.dumps(header))
    with pytest.raises(BadInputError, match=message):
        open_memory(tmp_path, CHAMPION)


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    """The digest fits, the projections fit, the arrays do not: the header was edited to match other tensors."""
    import hashlib

    memory().save(tmp_path)
    from safetensors.numpy import load, save

    tensors = load((tmp_path / TENSORS).read_bytes())
    tensors["count"] = tensors["count"][:, :16].copy()
    content = save(tensors)
    (tmp_path / TENSORS).write_bytes(content)
    header = read_header(tmp_path).model_copy(update={"tensors": hashlib.sha256(content).hexdigest()})
    (tmp_path / HEADER).write_text(header.model_dump_json())
    with pytest.raises(BadInputError, match="its header says"):
        open_memory(tmp_path, CHAMPION)


def test_no_memory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no error memory in .*: run refresh_error_memory"):
        open_memory(tmp_path, CHAMPION)
