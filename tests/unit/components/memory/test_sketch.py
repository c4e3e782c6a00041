"""Do similar keys meet as often as theory says, and do buckets hold what was written to them?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.ground.errors import BadInputError
from registry.memory.keys import row_keys
from registry.memory.sketch import CHUNK, Sketch, SketchShape
from registry.memory.spec import KeySpec

ROOT = Path(__file__).resolve().parents[4]
TASKS = ("like", "love")
SMALL = SketchShape(arrays=8, bits=4, width=6, seed=3)


def rows(count: int, seed: int = 0, width: int = 6) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(count, width)),
        {task: (rng.random(count) < 0.3).astype(np.float32) for task in TASKS},
        {task: rng.random(count) for task in TASKS},
    )


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


def test_a_bucket_is_the_number_that_its_signs_spell() -> None:
    """Bit l of array k is the sign of column l·m + k; more keys than are projected at once."""
    keys, _, _ = rows(CHUNK + 3)
    sketch = Sketch.empty(SMALL, TASKS)
    signs = np.einsum("bw,wc->bc", keys, sketch.shape.projections()) > 0
    for array in range(SMALL.arrays):
        bits = [signs[:, bit * SMALL.arrays + array] * 2**bit for bit in range(SMALL.bits)]
        expected = array * SMALL.buckets + np.sum(bits, axis=0)
        assert np.array_equal(sketch.buckets(keys)[:, array], expected)


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


def test_another_process_hashes_alike() -> None:
    code = """
import numpy as np, pyarrow as pa
from registry.memory.keys import KeySpec, row_keys
from registry.memory.sketch import CHUNK, Sketch, SketchShape
from registry.memory.spec import KeySpec
keys = row_keys(KeySpec(kind="hidden_user", hidden=2), np.eye(2), np.zeros(2), pa.table({"user_id": ["u1", "u2"]}))
print(Sketch.empty(SketchShape(arrays=5, bits=8, width=66, seed=11), ()).buckets(keys).tolist())
"""
    keys = row_keys(KeySpec(kind="hidden_user", hidden=2), np.eye(2), np.zeros(2), pa.table({"user_id": ["u1", "u2"]}))
    here = Sketch.empty(SketchShape(arrays=5, bits=8, width=66, seed=11), ()).buckets(keys).tolist()
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.strip() == str(here)
