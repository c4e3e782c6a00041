"""Is a split ever leaky, empty or dependent on luck?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.data.build_training_set.config import Split
from components.data.build_training_set.split import request_ends, split_rows, trained_until
from components.data.training_set import SPLITS
from components.platform.errors import BadInputError

START = datetime(2024, 1, 1, tzinfo=UTC)


def series(seconds: list[int]) -> pl.Series:
    times = [START + timedelta(seconds=s) for s in sorted(seconds)]
    return pl.Series("event_timestamp", times, dtype=pl.Datetime("us", "UTC"))


shares = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)).map(
    lambda n: (n[0] / sum(n), n[1] / sum(n), 1 - n[0] / sum(n) - n[1] / sum(n))
)


@given(st.lists(st.integers(0, 30), min_size=3, max_size=200), shares)
def test_a_time_split_is_whole_timestamps_in_order(seconds: list[int], share: tuple[float, float, float]) -> None:
    times = series(seconds)
    assume(times.n_unique() >= 3)
    split = Split(by="time", train=share[0], validation=share[1], test=share[2])
    parts = split_rows(times, split)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(times)))
    train, validation, test = (times.gather(parts[name]) for name in SPLITS)
    assert train.max() < validation.min() <= validation.max() < test.min()  # type: ignore[operator]  # polars' max is Any
    assert trained_until(times, parts, split) == test.min()


@given(st.integers(100, 400), shares)
def test_a_time_split_of_distinct_times_has_the_wanted_shares(rows: int, share: tuple[float, float, float]) -> None:
    parts = split_rows(series(list(range(rows))), Split(train=share[0], validation=share[1], test=share[2]))
    for name, wanted in zip(SPLITS, share, strict=True):
        assert abs(len(parts[name]) - wanted * rows) <= 1.5


@given(st.integers(30, 200), st.integers(0, 5))
def test_a_random_split_is_exact_repeatable_and_seeded(rows: int, seed: int) -> None:
    times = series(list(range(rows)))
    split = Split(by="random", train=0.8, validation=0.1, test=0.1, seed=seed)
    parts = split_rows(times, split)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(rows))
    assert len(parts["train"]) == round(rows * 0.8)
    again, other = split_rows(times, split), split_rows(times, split.model_copy(update={"seed": seed + 1}))
    assert all(np.array_equal(parts[name], again[name]) for name in SPLITS)
    assert any(not np.array_equal(parts[name], other[name]) for name in SPLITS)
    newest = max(times[int(parts["train"][-1])], times[int(parts["validation"][-1])])
    assert trained_until(times, parts, split) == newest + timedelta(microseconds=1)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), min_size=3, max_size=80), shares, st.booleans())
@settings(deadline=None)
def test_a_request_is_never_divided(
    rows: list[tuple[int, int]], share: tuple[float, float, float], by_time: bool
) -> None:
    frame = pl.DataFrame({"t": series([second for second, _ in rows]), "request": [request for _, request in rows]})
    ends = request_ends(frame, "t", "request")
    assume(ends.n_unique() >= 3)
    split = Split(by="time" if by_time else "random", train=share[0], validation=share[1], test=share[2])
    try:
        parts = split_rows(ends, split, frame["request"])
    except BadInputError:  # a few large requests leave a part without any
        assert not by_time
        return
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(frame)))
    held = [set(frame["request"].gather(parts[name])) for name in SPLITS]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    until = trained_until(ends, parts, split)
    used = np.concatenate([parts["train"], parts["validation"]])
    assert frame["t"].gather(used).max() < until
    if by_time:  # what is tested was not over when the last row was trained on
        assert ends.gather(parts["test"]).min() == until


def test_requests_of_one_row_are_split_as_rows_by_time() -> None:
    times = series([1, 1, 2, 3, 5, 8, 13, 21, 34, 55])
    frame = pl.DataFrame({"t": times, "request": range(10)})
    parts, whole = (
        split_rows(times, Split()),
        split_rows(request_ends(frame, "t", "request"), Split(), frame["request"]),
    )
    assert all(np.array_equal(parts[name], whole[name]) for name in SPLITS)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(0, 31), st.integers(1, 31))
@settings(deadline=None)
def test_moments_cut_half_open_whatever_the_shares_say(seconds: list[int], first: int, gap: int) -> None:
    times = series(seconds)
    cuts = [START + timedelta(seconds=first), START + timedelta(seconds=first + gap)]
    split = Split(train=0.1, validation=0.1, test=0.8, validation_from=cuts[0], test_from=cuts[1])
    wanted = [
        np.flatnonzero((times < cuts[0]).to_numpy()),
        np.flatnonzero(((times >= cuts[0]) & (times < cuts[1])).to_numpy()),
        np.flatnonzero((times >= cuts[1]).to_numpy()),
    ]
    if not all(len(rows) for rows in wanted):
        with pytest.raises(BadInputError, match=r"split is empty: rows lie from .* move them into that range"):
            split_rows(times, split)
        return
    parts = split_rows(times, split)
    assert all(np.array_equal(parts[name], rows) for name, rows in zip(SPLITS, wanted, strict=True))
    assert trained_until(times, parts, split) == times[int(wanted[2][0])]


def test_moments_are_kept_in_utc() -> None:
    text = {"validation_from": "2022-05-03T00:00:00+08:00", "test_from": "2022-05-03T16:00:00Z"}
    split = Split.model_validate(text)
    assert split.validation_from == datetime(2022, 5, 2, 16, tzinfo=UTC)
    assert split == Split.model_validate({**text, "validation_from": "2022-05-02T16:00:00Z"})
    assert '"2022-05-02T16:00:00Z"' in split.model_dump_json()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"validation_from": "2022-05-02T16:00:00Z"}, "belong together"),
        ({"test_from": "2022-05-02T16:00:00Z"}, "belong together"),
        ({"validation_from": "2022-05-02T16:00:00Z", "test_from": "2022-05-02T16:00:00Z"}, "must be later than"),
        ({"validation_from": "2022-05-02", "test_from": "2022-05-03"}, "timezone"),
        ({"by": "random", "validation_from": "2022-05-02T16:00:00Z", "test_from": "2022-05-03T16:00:00Z"}, "by: time"),
    ],
)
def test_moments_that_cannot_cut_are_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Split.model_validate(keys)


def test_too_few_times_or_rows_are_one_sentence() -> None:
    with pytest.raises(BadInputError, match="three distinct times"):
        split_rows(series([1, 1, 1, 2, 2]), Split())
    with pytest.raises(BadInputError, match="one part would be empty"):
        split_rows(series([1, 2, 3]), Split(by="random"))
