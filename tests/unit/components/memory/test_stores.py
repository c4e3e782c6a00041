"""Do both stores keep the laws of a memory: what was written is read, and neither order nor writers leave a trace?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ground.errors import BadInputError
from registry.memory.compensation import apply, errors_of
from registry.memory.exact import Exact
from registry.memory.neighbours import Neighbours
from registry.memory.sketch import Sketch
from registry.memory.spec import ExactStore, ReadOut, SketchStore
from registry.memory.stores import empty_store, layout, restored

TASKS = ("like", "love")
WIDTH = 6
SKETCH = SketchStore(arrays=8, bits=4)
EXACT = ExactStore(neighbours=5, capacity=10_000)
SMALL = ExactStore(neighbours=5, capacity=40, threshold=0.3)
every = pytest.mark.parametrize("choice", [SKETCH, EXACT, SMALL], ids=["sketch", "exact", "exact_bounded"])
Rows = tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]


def rows(count: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(count, WIDTH)),
        {task: (rng.random(count) < 0.3).astype(np.float32) for task in TASKS},
        {task: rng.random(count) for task in TASKS},
    )


def part(given: Rows, at: slice | np.ndarray) -> Rows:
    keys, label, predicted = given
    return keys[at], {t: v[at] for t, v in label.items()}, {t: v[at] for t, v in predicted.items()}


def written(choice: SketchStore | ExactStore, *batches: Rows) -> Sketch | Exact:
    store = empty_store(choice, WIDTH, 3, TASKS)
    for batch in batches:
        store.write(*batch)
    assert isinstance(store, Sketch | Exact)
    return store


def sketch(batch: Rows) -> Sketch:
    store = written(SKETCH, batch)
    assert isinstance(store, Sketch)
    return store


def contents(store: Sketch | Exact) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(values).tobytes() for name, values in store.tensors().items()}


@every
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.tuples(st.integers(0, 90), st.integers(0, 90)))
def test_neither_batches_nor_their_order_leave_a_trace(
    choice: SketchStore | ExactStore, seed: int, cuts: tuple[int, int]
) -> None:
    low, high = sorted(cuts)
    given_rows = rows(90, seed)
    parts = [part(given_rows, at) for at in (slice(0, low), slice(low, high), slice(high, None))]
    whole = contents(written(choice, given_rows))
    assert contents(written(choice, *parts)) == contents(written(choice, *parts[::-1])) == whole
    assert contents(written(choice, part(given_rows, np.random.default_rng(seed).permutation(90)))) == whole
    if choice is SKETCH:
        a, b, c = (sketch(one) for one in parts)
        assert contents(a.merged(b).merged(c)) == whole
        assert contents(a.merged(b.merged(c))) == whole
        assert contents(c.merged(a).merged(b)) == whole


def test_merging_changes_neither_part() -> None:
    a, b = sketch(rows(50, 1)), sketch(rows(50, 2))
    before = contents(a), contents(b)
    a.merged(b).write(*rows(10, 3))
    assert (contents(a), contents(b)) == before


@pytest.mark.parametrize(
    ("mine", "theirs", "seeds", "tasks"),
    [
        (SKETCH, SKETCH, (0, 1), TASKS),
        (SKETCH, SketchStore(arrays=8, bits=5), (0, 0), TASKS),
        (SKETCH, SKETCH, (0, 0), ("like",)),
    ],
)
def test_memories_of_different_seeds_or_shapes_do_not_merge(
    mine: SketchStore, theirs: SketchStore, seeds: tuple[int, int], tasks: tuple[str, ...]
) -> None:
    a, b = empty_store(mine, WIDTH, seeds[0], TASKS), empty_store(theirs, WIDTH, seeds[1], tasks)
    assert isinstance(a, Sketch) and isinstance(b, Sketch)
    with pytest.raises(BadInputError, match="cannot be merged: write both"):
        a.merged(b)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), kept=st.floats(0.05, 1.0))
def test_forgetting_and_merging_commute(seed: int, kept: float) -> None:
    a, b = sketch(rows(40, seed)), sketch(rows(40, seed + 1))
    late = a.merged(b)
    late.forget(kept)
    a.forget(kept)
    b.forget(kept)
    for name, values in a.merged(b).tensors().items():
        np.testing.assert_allclose(values, late.tensors()[name], rtol=1e-12)


@every
def test_decay_lets_the_newer_rows_speak_louder(choice: SketchStore | ExactStore) -> None:
    """One key: four labels of 0, a slot's end at ρ = .25, then one label of 1: the mean is 1 / (4·.25 + 1)."""

    def answer(kept: float) -> Neighbours:
        store = written(choice)
        for count, label in ((4, 0.0), (1, 1.0)):
            if store.rows:
                store.forget(kept)
            labels = {task: np.full(count, label) for task in TASKS}
            store.write(np.ones((count, WIDTH)), labels, {task: np.full(count, 0.5) for task in TASKS})
        return store.read(np.ones((1, WIDTH)))

    base = {task: np.zeros(1) for task in TASKS}
    for kept, mean in ((1.0, 0.2), (0.25, 0.5)):
        found = answer(kept)
        np.testing.assert_allclose(errors_of(found, base, ReadOut(pool="ratio"))["like"], [mean])
        np.testing.assert_allclose(errors_of(found, base, ReadOut())["like"], [mean])
        np.testing.assert_allclose(found.support, [1 + 4 * kept])
    with pytest.raises(BadInputError, match="decay lies above 0"):
        written(choice).forget(0.0)


@every
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), gamma=st.floats(0, 1), pool=st.sampled_from(["softmax", "ratio"]))
def test_no_weight_or_no_memory_is_the_base_model(
    choice: SketchStore | ExactStore, seed: int, gamma: float, pool: str
) -> None:
    keys, _, base = rows(20, seed + 5)
    read_out = ReadOut.model_validate({"gamma": gamma, "pool": pool})
    for store, weight in ((written(choice), 0.9), (written(choice, rows(60, seed)), 0.0)):
        for task, error in errors_of(store.read(keys), base, read_out).items():
            assert np.array_equal(apply(base[task], error, weight), base[task])


@every
def test_a_store_comes_back_from_its_tensors(choice: SketchStore | ExactStore) -> None:
    store = written(choice, rows(60))
    tensors = {name: values.copy() for name, values in store.tensors().items()}
    assert {name: values.shape for name, values in tensors.items()} == layout(choice, WIDTH, TASKS, store.rows)
    back = restored(choice, WIDTH, 3, TASKS, tensors)
    one, other = store.read(rows(9, 7)[0]), back.read(rows(9, 7)[0])
    for name in ("count", "similarity", "support"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for task in TASKS:
        assert np.array_equal(one.label[task], other.label[task])
        assert np.array_equal(one.predicted[task], other.predicted[task])


@every
@pytest.mark.parametrize("wrong", ["width", "nan", "label", "length", "task"])
def test_bad_rows_leave_a_store_as_it_was(choice: SketchStore | ExactStore, wrong: str) -> None:
    store = written(choice, rows(30))
    before = contents(store)
    keys, label, predicted = rows(2)
    match wrong:
        case "label":
            label["like"][0] = np.nan
        case "nan":
            keys[0, 0] = np.nan
        case "length":
            predicted["love"] = np.zeros(3)
        case "task":
            del label["love"]
    with pytest.raises(BadInputError):
        store.write(keys[:, :5] if wrong == "width" else keys, label, predicted)
    assert contents(store) == before


def test_the_exact_store_finds_the_most_similar_rows() -> None:
    """Against all cosines, computed here."""
    given_rows = rows(300)
    store, (queries, _, _) = written(EXACT, given_rows), rows(25, 9)
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        given_rows[0] / np.linalg.norm(given_rows[0], axis=1, keepdims=True)
    ).T
    nearest = np.argsort(-cosines, axis=1)[:, :5]
    found = store.read(queries)
    np.testing.assert_allclose(found.similarity, np.take_along_axis(cosines, nearest, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.predicted["love"], given_rows[2]["love"][nearest])
    assert written(EXACT, rows(3)).read(queries).count.shape == (25, 3)  # fewer rows than neighbours
    store.write(queries, {t: np.ones(25) for t in TASKS}, {t: np.zeros(25) for t in TASKS})
    np.testing.assert_allclose(store.read(queries).similarity[:, 0], 1.0, atol=1e-6)  # and what came later


def test_the_exact_store_answers_the_golden_vector() -> None:
    """§5.7: keys of norm 1, so that cosines are dot products; γ = 1, λ = .4, τ = .1 and 1."""
    store = Exact.empty(ExactStore(neighbours=3), 2, 0, ("like",))
    keys = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    store.write(keys, {"like": np.array([1.0, 0.0, 1.0])}, {"like": np.array([0.7, 0.2, 0.4])})
    found, base = store.read(np.array([[0.8, 0.6]])), {"like": np.array([0.5])}
    for temperature, gamma, answer in ((0.1, 1.0, 0.6911086), (0.1, 0.5, 0.7021429), (0.1, 0.0, 0.7131772),
                                       (1.0, 1.0, 0.5905529)):  # fmt: skip
        error = errors_of(found, base, ReadOut(temperature=temperature, gamma=gamma))["like"]
        np.testing.assert_allclose(apply(base["like"], error, 0.4), [answer], atol=1e-6)


def test_small_errors_are_left_out_and_the_rest_is_sampled_evenly() -> None:
    """Threshold: any task may exceed it. Capacity: each tenth of the stream keeps its share."""
    count = 20_000
    keys = np.random.default_rng(0).normal(size=(count, WIDTH))
    label = {"like": np.ones(count), "love": np.zeros(count)}
    predicted = {"like": np.where(np.arange(count) % 4 == 0, 0.5, 0.9), "love": np.full(count, 0.2)}
    strict = written(ExactStore(threshold=0.2), (keys, label, predicted))
    assert strict.rows == count // 4
    assert written(ExactStore(threshold=0.1), (keys, label, predicted)).rows == count
    when = np.repeat(np.linspace(0, 1, 10, endpoint=False), count // 10)
    sample = written(ExactStore(capacity=2000), *(
        part((keys, label, {"like": when, "love": when}), slice(a, a + 2000)) for a in range(0, count, 2000)
    ))  # fmt: skip
    assert sample.rows == 2000
    _, shares = np.unique(sample.predicted["love"], return_counts=True)
    assert len(shares) == 10 and shares.min() > 140 and shares.max() < 260  # 200 ± 4.5 standard deviations
    other = Exact.empty(ExactStore(capacity=2000), WIDTH, 4, TASKS)
    other.write(keys, label, {"like": when, "love": when})
    assert not np.array_equal(other.keys, sample.keys)  # another seed keeps others


def test_rows_that_hardly_count_any_more_are_dropped() -> None:
    store = written(EXACT, rows(50))
    store.forget(0.05)
    store.write(*rows(10, 1))
    store.forget(0.01)
    assert store.rows == 10
