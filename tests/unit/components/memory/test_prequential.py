"""Is every row scored before the memory learns from it, and is a planted drift found?"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ground.errors import BadInputError
from registry.memory.compensation import apply, errors_of
from registry.memory.keys import row_keys
from registry.memory.prequential import Replay, Stream, replay, slot_bounds, timed_slots
from registry.memory.sketch import Sketch, SketchShape
from registry.memory.spec import KeySpec, ReadOut
from registry.metrics import auc, log_loss

GRID = tuple(i / 10 for i in range(10))


def empty(stream: Stream, tasks: tuple[str, ...] = ("like",)) -> Sketch:
    return Sketch.empty(SketchShape(arrays=64, bits=8, width=stream.keys.shape[1], seed=0), tasks)


def run(stream: Stream, grid: tuple[float, ...] = GRID, slots: int = 10, gamma: float = 1.0) -> Replay:
    return replay(
        stream, empty(stream), ("like",), bounds=slot_bounds(stream.times, slots), read_out=ReadOut(gamma=gamma),
        grid=grid, funnel=False,
    )  # fmt: skip


def losses(result: Replay, after: int) -> tuple[float, float]:
    """Return row-weighted base and compensated log-loss over the slots after `after`."""
    kept = [slot for slot in result.slots if slot.slot > after]
    rows = sum(slot.rows for slot in kept)
    base = sum(slot.rows * (slot.tasks["like"].base.log_loss or 0) for slot in kept) / rows
    return base, sum(slot.rows * (slot.tasks["like"].compensated.log_loss or 0) for slot in kept) / rows


def drift(rows: int = 6000, shuffle: bool = False) -> tuple[Stream, np.ndarray]:
    """A well-calibrated base model, and a group visible in `hidden` whose taste flips after a third of the rows."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, rows)
    hidden = (rng.normal(0, 1, (4, 12))[group] + rng.normal(0, 0.15, (rows, 12))).astype(np.float32)
    base = np.array([0.2, 0.4, 0.6, 0.8])[group]
    truth = np.where((group == 0) & (np.arange(rows) >= rows // 3), 0.85, base)
    label = (rng.random(rows) < truth).astype(np.float32)
    if shuffle:
        label = rng.permutation(label)
    keys = row_keys(KeySpec(kind="hidden", hidden=12), hidden, hidden.mean(axis=0), pa.table({}))
    users = rng.integers(0, 50, rows)
    return Stream(np.arange(rows, dtype=np.int64), users, keys, {"like": label}, {"like": base}), truth


def test_a_planted_drift_is_recovered() -> None:
    """At least half of the log-loss that an oracle would win back after the shift, and a better ranking."""
    stream, truth = drift()
    label, base = np.asarray(stream.labels["like"]), stream.predicted["like"]
    result = run(stream)
    late = slice(4000, None)  # a third of the stream after the shift at row 2000
    oracle, before = log_loss(label[late], truth[late]), log_loss(label[late], base[late])
    after = log_loss(label[late], result.compensated["like"][late])
    assert oracle is not None and before is not None and after is not None
    assert before - after > 0.5 * (before - oracle) > 0.05
    assert (auc(label[late], result.compensated["like"][late]) or 0) > (auc(label[late], base[late]) or 1) + 0.03
    assert result.tasks["like"].enabled
    assert result.tasks["like"].weight > 0


def test_without_drift_nothing_is_won_or_lost() -> None:
    rng = np.random.default_rng(1)
    stream, _ = drift()
    calm = Stream(
        stream.times,
        stream.users,
        stream.keys,
        {"like": (rng.random(len(stream.times)) < stream.predicted["like"]).astype(float)},
        stream.predicted,
    )
    base, after = losses(run(calm), after=1)
    assert abs(base - after) < 0.005


def test_a_grid_of_zero_changes_nothing() -> None:
    stream, _ = drift()
    result = run(stream, grid=(0.0,))
    assert np.array_equal(result.compensated["like"], stream.predicted["like"])
    for slot in result.slots:
        assert slot.tasks["like"].base == slot.tasks["like"].compensated


def test_shuffled_labels_hold_nothing_to_rank_by() -> None:
    """Labels torn from their rows: the memory may recalibrate towards the mean but cannot rank."""
    stream, _ = drift(shuffle=True)
    label = stream.labels["like"]
    later = slice(len(label) // 10, None)
    assert abs((auc(label[later], run(stream).compensated["like"][later]) or 0) - 0.5) < 0.02


def distinct_keys(rows: int = 3000) -> Stream:
    """Every row has its own key and a coin toss for a label: only the row itself could tell its label."""
    rng = np.random.default_rng(2)
    keys = rng.normal(size=(rows, 40))
    label = (rng.random(rows) < 0.5).astype(float)
    return Stream(np.arange(rows, dtype=np.int64), np.arange(rows), keys, {"like": label}, {"like": np.full(rows, 0.5)})


def test_scoring_comes_before_writing() -> None:
    """Writing first would score almost perfectly on coin tosses; the replay must not gain at all."""
    stream = distinct_keys()
    label, base = stream.labels["like"], stream.predicted["like"]
    leaking = empty(stream)
    leaking.write(stream.keys, stream.labels, stream.predicted)
    leaked = apply(base, errors_of(leaking.read(stream.keys), stream.predicted, ReadOut())["like"], 0.9)
    assert (auc(label, leaked) or 0) > 0.95  # what a wrong order would show
    honest = run(stream)
    assert abs((auc(label, honest.compensated["like"]) or 0) - 0.5) < 0.04
    before, after = losses(honest, after=1)
    assert before - after < 0.003
    assert [slot.stored for slot in honest.slots] == np.cumsum([0] + [s.rows for s in honest.slots[:-1]]).tolist()


def test_labels_of_a_slot_and_later_touch_no_prediction_of_it() -> None:
    """Flip every label from slot 6 on: predictions and λ of slots 1 to 6 stay to the bit."""
    stream, _ = drift()
    label = np.asarray(stream.labels["like"]).copy()
    start = slot_bounds(stream.times, 10)[5][0]
    end = slot_bounds(stream.times, 10)[5][1]
    label[start:] = 1 - label[start:]
    one = run(stream)
    other = run(Stream(stream.times, stream.users, stream.keys, {"like": label}, stream.predicted))
    assert np.array_equal(one.compensated["like"][:end], other.compensated["like"][:end])
    assert not np.array_equal(one.compensated["like"][end:], other.compensated["like"][end:])
    weights = [[slot.tasks["like"].weight for slot in result.slots[:6]] for result in (one, other)]
    assert weights[0] == weights[1]


def test_the_first_slot_is_the_base_model_and_lambda_is_the_best_of_the_past() -> None:
    stream, _ = drift()
    result = run(stream)
    assert result.slots[0].tasks["like"].weight == 0.0
    assert result.slots[0].stored == 0
    assert result.slots[0].empty == 1.0
    assert result.slots[1].tasks["like"].weight == 0.0  # nothing was compensated yet: a tie, the smallest wins
    fixed = {weight: run(stream, grid=(weight,)) for weight in GRID}
    for slot in result.slots[2:]:
        end = int(sum(s.rows for s in result.slots[: slot.slot - 1]))
        label = stream.labels["like"][:end]
        past = {w: round(log_loss(label, r.compensated["like"][:end]) or 0, 12) for w, r in fixed.items()}
        assert slot.tasks["like"].weight == min(past, key=lambda w: (past[w], w))


def test_a_memory_that_hurts_is_switched_off() -> None:
    """Each slot turns the world upside down: what was learned is wrong by the time it is used."""
    rng = np.random.default_rng(3)
    rows = 4000
    side = rng.integers(0, 2, rows)
    keys = np.where(side[:, None] == 0, 1.0, -1.0) * np.ones((rows, 8)) + rng.normal(0, 0.1, (rows, 8))
    label = (side ^ ((np.arange(rows) // 400) % 2)).astype(float)
    stream = Stream(np.arange(rows, dtype=np.int64), side, keys, {"like": label}, {"like": np.full(rows, 0.5)})
    result = run(stream, grid=(0.9,))
    assert result.slots[0].tasks["like"].weight == 0.0  # nothing is stored yet, whatever the grid offers
    outcome = result.tasks["like"]
    assert outcome.log_loss is not None and outcome.base_log_loss is not None
    assert outcome.log_loss > outcome.base_log_loss
    assert not outcome.enabled


def test_one_moment_is_one_slot_and_cannot_be_judged() -> None:
    stream = distinct_keys(100)
    result = run(Stream(np.zeros(100, dtype=np.int64), stream.users, stream.keys, stream.labels, stream.predicted))
    assert len(result.slots) == 1
    assert not result.tasks["like"].enabled
    assert result.tasks["like"].log_loss is None


@given(steps=st.lists(st.integers(0, 2), min_size=1, max_size=80), slots=st.integers(2, 20))
def test_slots_cover_all_rows_and_never_split_a_moment(steps: list[int], slots: int) -> None:
    times = np.cumsum(steps)
    bounds = slot_bounds(times, slots)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == len(times)
    assert len(bounds) <= slots
    for (begin, end), (following, _) in zip(bounds, (*bounds[1:], (len(times), None)), strict=True):
        assert begin < end == following
        assert end == len(times) or times[end - 1] < times[end]


def test_slots_are_of_nearly_equal_length_where_times_differ() -> None:
    assert [end - begin for begin, end in slot_bounds(np.arange(103), 10)] == [10, 10, 10, 11, 10, 10, 11, 10, 10, 11]


def test_a_stream_out_of_order_is_refused() -> None:
    stream = distinct_keys(10)
    backwards = Stream(stream.times[::-1], stream.users, stream.keys, stream.labels, stream.predicted)
    with pytest.raises(BadInputError, match="not in order of time"):
        run(backwards)
    nothing = Stream(stream.times[:0], stream.users[:0], stream.keys[:0], {"like": np.zeros(0)}, {"like": np.zeros(0)})
    with pytest.raises(BadInputError, match="no row"):
        run(nothing)
    used = empty(stream)
    used.write(stream.keys, stream.labels, stream.predicted)
    with pytest.raises(BadInputError, match="already holds 10 rows"):
        replay(stream, used, ("like",), bounds=((0, 10),), read_out=ReadOut(), grid=GRID, funnel=False)


@given(steps=st.lists(st.integers(0, 5_000_000_000), min_size=1, max_size=60))
def test_timed_slots_are_the_hours_that_hold_rows(steps: list[int]) -> None:
    times = np.cumsum(steps)
    bounds = timed_slots(times, timedelta(hours=1))
    hours = [np.unique(times[begin:end] // 3_600_000_000).tolist() for begin, end in bounds]
    assert [hour for (hour,) in hours] == np.unique(times // 3_600_000_000).tolist()
    assert [begin for begin, _ in bounds] == [0, *(end for _, end in bounds[:-1])] and bounds[-1][1] == len(times)


def pairs(rows: int = 2000) -> tuple[Stream, np.ndarray]:
    """One positive and one negative per user and moment, in random order; only a user's other row tells the label."""
    rng = np.random.default_rng(5)
    first = rng.integers(0, 2, rows // 2)
    label = np.stack([first, 1 - first], axis=1).reshape(-1).astype(float)
    user = np.repeat(np.arange(rows // 2), 2)
    spec = KeySpec(kind="hidden_user", hidden=2, user_weight=4.0)
    keys = row_keys(spec, rng.normal(size=(rows, 2)), np.zeros(2), pa.table({"user_id": user}))
    return Stream(user.astype(np.int64), user, keys, {"like": label}, {"like": np.full(rows, 0.5)}), user


def test_a_user_s_pair_in_one_slot_cannot_leak() -> None:
    """Amazon's test file has such pairs: the second label is the opposite of the first."""
    stream, user = pairs()
    label = stream.labels["like"]
    together = run(stream, grid=(0.9,))
    assert all(slot.rows % 2 == 0 for slot in together.slots)
    assert abs((auc(label, together.compensated["like"]) or 0) - 0.5) < 0.04
    # Negative control: each user's second row one slot later than the first, and the pair gives itself away.
    order = np.lexsort((user, np.arange(len(user)) % 2))
    apart = Stream(
        np.arange(len(user), dtype=np.int64),
        user[order],
        stream.keys[order],
        {"like": label[order]},
        {"like": stream.predicted["like"]},
    )
    told = run(apart, grid=(0.9,), slots=2).compensated["like"][len(user) // 2 :]
    assert (auc(apart.labels["like"][len(user) // 2 :], told) or 1) < 0.1


def test_rows_of_no_slot_keep_what_the_base_model_said() -> None:
    stream, _ = drift(rows=1200)
    some = slot_bounds(stream.times, 6)[1:3]
    found = replay(
        stream, empty(stream), ("like",), bounds=some, read_out=ReadOut(gamma=1.0), grid=(0.5,), funnel=False
    ).compensated["like"]
    outside = np.r_[0 : some[0][0], some[-1][1] : 1200]
    assert (found[outside] == stream.predicted["like"][outside]).all() and len(outside) == 800
    assert (found != stream.predicted["like"]).any()
