"""Do similar keys meet as often as theory says, and do sums forget order, batches and writers?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInputError
from registry.memory.keys import CODE, KeySpec, row_keys, user_codes
from registry.memory.sketch import Sketch, SketchShape

ROOT = Path(__file__).resolve().parents[3]
TASKS = ("like", "love")
SMALL = SketchShape(arrays=8, bits=4, width=6, seed=3)


def rows(count: int, seed: int = 0, width: int = 6) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(count, width)),
        {task: (rng.random(count) < 0.3).astype(np.float32) for task in TASKS},
        {task: rng.random(count) for task in TASKS},
    )


def contents(sketch: Sketch) -> list[bytes]:
    return [sketch.count.tobytes()] + [
        sums[task].tobytes() for sums in (sketch.label, sketch.predicted) for task in TASKS
    ]


@pytest.mark.parametrize("degrees", [10, 30, 60, 90, 120])
@pytest.mark.parametrize("bits", [1, 4])
def test_collision_probability_is_that_of_signed_projections(degrees: float, bits: int) -> None:
    """(1 − θ/π)^L, within five standard errors over 4096 arrays (times pairs, which share projections)."""
    theta = np.deg2rad(degrees)
    keys = np.array([[1.0, 0, 0], [np.cos(theta), np.sin(theta), 0]])
    shapes = [SketchShape(arrays=1024, bits=bits, width=3, seed=seed) for seed in range(4)]
    met = np.concatenate([a == b for a, b in (Sketch.empty(shape, ()).buckets(keys) for shape in shapes)])
    expected = (1 - theta / np.pi) ** bits
    assert abs(met.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / met.size)


def test_buckets_ignore_the_scale_of_a_key() -> None:
    keys, _, _ = rows(50)
    sketch = Sketch.empty(SMALL, TASKS)
    assert np.array_equal(sketch.buckets(keys), sketch.buckets(keys * 7.5))
    opposite = sketch.buckets(-keys) - sketch.buckets(keys)
    assert (opposite != 0).all()  # the opposite key has every sign flipped


def test_read_returns_the_means_of_what_was_written_to_the_bucket() -> None:
    """Against brute force: group rows by bucket and average."""
    keys, label, predicted = rows(300)
    sketch = Sketch.empty(SMALL, TASKS)
    sketch.write(keys, label, predicted)
    queries, _, _ = rows(40, seed=9)
    found = sketch.read(queries)
    stored, asked = sketch.buckets(keys), sketch.buckets(queries)
    for query in range(40):
        for array in range(SMALL.arrays):
            same = stored[:, array] == asked[query, array]
            assert found.count[query, array] == same.sum()
            for task in TASKS:
                expected = (label[task][same].mean(), predicted[task][same].mean()) if same.any() else (0.0, 0.0)
                got = (found.label[task][query, array], found.predicted[task][query, array])
                np.testing.assert_allclose(got, expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 60))
def test_order_batches_and_writers_leave_no_trace(seed: int, cut: int) -> None:
    keys, label, predicted = rows(60, seed)
    whole = Sketch.empty(SMALL, TASKS)
    whole.write(keys, label, predicted)

    def part(chosen: np.ndarray) -> Sketch:
        sketch = Sketch.empty(SMALL, TASKS)
        for batch in np.array_split(chosen, 3):
            pick = {task: label[task][batch] for task in TASKS}, {task: predicted[task][batch] for task in TASKS}
            sketch.write(keys[batch], *pick)
        return sketch

    shuffled = np.random.default_rng(seed).permutation(60)
    assert contents(part(shuffled)) == contents(whole)
    merged = part(shuffled[:cut]).merged(part(shuffled[cut:]))
    assert contents(merged) == contents(whole)
    assert merged.rows == whole.rows == 60


def test_merging_changes_neither_part() -> None:
    keys, label, predicted = rows(20)
    one, two = Sketch.empty(SMALL, TASKS), Sketch.empty(SMALL, TASKS)
    one.write(keys, label, predicted)
    before = contents(one)
    one.merged(two).write(keys, label, predicted)
    assert contents(one) == before
    assert two.rows == 0


def test_sketches_that_hash_differently_do_not_merge() -> None:
    other = Sketch.empty(SMALL.model_copy(update={"seed": 4}), TASKS)
    with pytest.raises(BadInputError, match="cannot be merged"):
        Sketch.empty(SMALL, TASKS).merged(other)


@pytest.mark.parametrize(
    ("label", "predicted", "keys", "message"),
    [
        ([0.0, 2.0], [0.5, 0.5], np.zeros((2, 6)), "labels of 'like' lie outside"),
        ([0.0, np.nan], [0.5, 0.5], np.zeros((2, 6)), "labels of 'like' lie outside"),
        ([0.0, 1.0], [0.5, 1.5], np.zeros((2, 6)), "predictions of 'like' lie outside"),
        ([0.0], [0.5, 0.5], np.zeros((2, 6)), "shape"),
        ([0.0, 1.0], [0.5, 0.5], np.zeros((2, 5)), "key width 6"),
        ([0.0, 1.0], [0.5, 0.5], np.full((2, 6), np.nan), "NaN"),
    ],
)
def test_bad_rows_leave_the_sketch_as_it_was(
    label: list[float], predicted: list[float], keys: np.ndarray, message: str
) -> None:
    sketch = Sketch.empty(SMALL, ("like",))
    sketch.write(np.ones((1, 6)), {"like": np.ones(1)}, {"like": np.ones(1)})
    before = sketch.count.tobytes(), sketch.label["like"].tobytes(), sketch.predicted["like"].tobytes()
    with pytest.raises(BadInputError, match=message):
        sketch.write(keys, {"like": np.array(label)}, {"like": np.array(predicted)})
    assert before == (sketch.count.tobytes(), sketch.label["like"].tobytes(), sketch.predicted["like"].tobytes())


def test_a_missing_task_is_named() -> None:
    with pytest.raises(BadInputError, match="love"):
        Sketch.empty(SMALL, TASKS).write(np.ones((1, 6)), {"like": np.ones(1)}, {"like": np.ones(1)})


def test_user_codes_tell_users_apart_whatever_the_type_of_the_id() -> None:
    ids = pa.array(range(500))
    codes = user_codes(ids, seed=1)
    assert codes.shape == (500, CODE)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1.0)
    cosines = (codes @ codes.T)[np.triu_indices(500, 1)]
    assert cosines.max() < 0.8
    assert abs(cosines.mean()) < 0.01
    assert abs(cosines.std() - 1 / np.sqrt(CODE)) < 0.005
    assert np.array_equal(codes, user_codes(ids.cast(pa.string()), seed=1))
    assert np.array_equal(codes, user_codes(ids.cast(pa.int32()), seed=1))
    assert np.array_equal(codes[[3, 1]], user_codes(pa.array([3, 1]), seed=1))
    assert not np.array_equal(codes, user_codes(ids, seed=2))
    assert not user_codes(pa.array([None, 7]), seed=1)[0].any()


def test_keys_weigh_hidden_and_user_as_documented() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(4, 200)).astype(np.float32) * 50 + 10
    users = pa.array(["a", "a", "b", "c"])
    for weight in (1.0, 2.0):
        keys = row_keys(KeySpec(kind="hidden_user", hidden=200, user_weight=weight), hidden, np.full(200, 10.0), users)
        unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
        plain = row_keys(KeySpec(kind="hidden", hidden=200), hidden, np.full(200, 10.0), users)
        codes = user_codes(users, 0)
        expected = (plain @ plain.T + weight**2 * codes @ codes.T) / (1 + weight**2)
        np.testing.assert_allclose(unit @ unit.T, expected, atol=1e-12)
    constant = row_keys(KeySpec(kind="hidden", hidden=200), np.full((1, 200), 10.0), np.full(200, 10.0), users)
    assert not constant.any()  # a vector equal to the mean has no direction, and no NaN
    with pytest.raises(BadInputError, match="width 100"):
        row_keys(KeySpec(kind="hidden", hidden=100), hidden, np.zeros(100), users)


def test_another_process_hashes_alike() -> None:
    code = """
import numpy as np, pyarrow as pa
from registry.memory.keys import KeySpec, row_keys
from registry.memory.sketch import Sketch, SketchShape
keys = row_keys(KeySpec(kind="hidden_user", hidden=2), np.eye(2), np.zeros(2), pa.array(["u1", "u2"]))
print(Sketch.empty(SketchShape(arrays=5, bits=8, width=66, seed=11), ()).buckets(keys).tolist())
"""
    keys = row_keys(KeySpec(kind="hidden_user", hidden=2), np.eye(2), np.zeros(2), pa.array(["u1", "u2"]))
    here = Sketch.empty(SketchShape(arrays=5, bits=8, width=66, seed=11), ()).buckets(keys).tolist()
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.strip() == str(here)
