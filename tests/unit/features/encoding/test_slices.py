"""Do slices of shared values hold what padded lists hold, also of events that a request may not know?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import FieldEncoding
from features.encoding.encoder import Encoder
from features.encoding.slices import Slices, apart, joined, narrow
from features.ground.errors import BadInputError

START = datetime(2026, 1, 1, tzinfo=UTC)
MICROS = int(START.timestamp()) * 1_000_000
DTYPES = {
    "item": "int64",
    "seen": "array<int64>",
    "liked": "array<int64>",
    "at": "array<int64>",
    "tags": "array<string>",
}
LENGTH = 4
OPTIONS = {
    "seen": FieldEncoding(kind="sequence", shares="item", length=LENGTH, timed_by="at"),
    "liked": FieldEncoding(kind="sequence", length=LENGTH, timed_by="at"),
    "at": FieldEncoding(kind="elapsed", length=LENGTH),
    "tags": FieldEncoding(kind="bag", length=2),
}
LOG = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 1), st.integers(0, 50)), min_size=1, max_size=8)


def table(rows: list[list[tuple[int | None, int, int | None]]], minutes: list[int]) -> pa.Table:
    """Rows whose histories hold an item, a label and the minute of an event, newest first."""
    times = [[None if m is None else MICROS + m * 60_000_000 for _, _, m in row] for row in rows]
    whole = pa.list_(pa.int64())
    return pa.table(
        {
            "item": pa.array([1 + i % 3 for i in range(len(rows))], pa.int64()),
            "seen": pa.array([[item for item, _, _ in row] for row in rows], whole),
            "liked": pa.array([[like for _, like, _ in row] for row in rows], whole),
            "at": pa.array(times, whole),
            "tags": pa.array([["a", "b", "c"][: len(row) % 4] for row in rows], pa.list_(pa.string())),
            "event_timestamp": pa.array([START + timedelta(minutes=m) for m in minutes], pa.timestamp("us", tz="UTC")),
        }
    )


def by_reference(log: list[tuple[int, int, int]], ends: list[int], minutes: list[int]) -> tuple[pa.Table, pa.Table]:
    """The same rows twice: with lists of their own, and with views of one log, newest event first."""
    log = sorted(log, key=lambda event: -event[2])
    starts = [min(end, len(log)) for end in ends]
    own = table([log[start:] for start in starts], minutes)  # type: ignore[arg-type]
    shared = own
    for name in ("seen", "liked", "at"):
        values = table([log], [0])[name].combine_chunks().flatten()  # type: ignore[list-item]
        sizes = pa.array([len(log) - start for start in starts], pa.int32())
        view = pa.ListViewArray.from_arrays(pa.array(starts, pa.int32()), sizes, values)
        shared = shared.set_column(shared.column_names.index(name), name, view)
    return own, shared


def padded(made: dict[str, Any]) -> dict[str, Any]:
    return {name: values.padded() if isinstance(values, Slices) else values for name, values in made.items()}


@given(
    rows=st.lists(
        st.lists(
            st.tuples(st.none() | st.integers(1, 9), st.integers(0, 1), st.none() | st.integers(0, 50)), max_size=6
        ),
        min_size=1,
        max_size=6,
    ),
    minute=st.integers(0, 60),
)
@settings(max_examples=150, deadline=None)
def test_padded_they_are_what_a_served_row_is(
    rows: list[list[tuple[int | None, int, int | None]]], minute: int
) -> None:
    """Whatever is missing, in whatever order, also after the request: training and service read the same."""
    fitted = Encoder.fit(table([[(1, 0, 0), (2, 1, 0)]] * 3, [0] * 3), DTYPES, OPTIONS)
    given_rows = table(rows, [minute] * len(rows))
    expected, made = fitted.encode(given_rows), fitted.encode_slices(given_rows)
    for name, values in padded(made).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    stream = [made[name] for name in ("seen", "liked", "at")]
    assert all(each.starts is stream[0].starts and each.counts is stream[0].counts for each in stream)  # type: ignore[union-attr]


@given(log=LOG, ends=st.lists(st.integers(0, 8), min_size=1, max_size=6), minute=st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_rows_that_share_a_log_read_what_rows_with_lists_of_their_own_do(
    log: list[tuple[int, int, int]], ends: list[int], minute: int
) -> None:
    own, shared = by_reference(log, ends, [minute] * len(ends))
    fitted = Encoder.fit(table([[(1, 0, 0), (2, 1, 0)]] * 3, [0] * 3), DTYPES, OPTIONS)
    made = fitted.encode_slices(shared)
    for name, values in padded(made).items():
        np.testing.assert_array_equal(values, fitted.encode(own)[name], err_msg=name)
    if minute > 50:  # every event lies before the request: nothing is copied
        seen = made["seen"]
        assert isinstance(seen, Slices) and len(seen.values) == len(log)


@given(log=LOG, ends=st.lists(st.integers(0, 8), min_size=1, max_size=6), least=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_vocabularies_of_a_shared_log_hold_what_rows_list(
    log: list[tuple[int, int, int]], ends: list[int], least: int
) -> None:
    """An event counts for every row that lists it, and not for being in the log."""
    own, shared = by_reference(log, ends, [60] * len(ends))
    options = {"liked": FieldEncoding(kind="sequence", length=LENGTH, min_count=least)}
    found = []
    for rows in (own, shared):
        try:
            found.append(Encoder.fit(rows.select(["liked"]), {"liked": "array<int64>"}, options).vocabularies)
        except BadInputError:
            found.append(None)
    assert found[0] == found[1]


def lists(values: list[list[int]]) -> Slices:
    counts = np.array([len(each) for each in values], dtype=np.int32)
    return Slices(np.concatenate([*values, []]).astype(np.uint8), np.cumsum(counts) - counts, counts, 3)


@pytest.mark.parametrize("at", [slice(1, 3), np.array([2, 0, 2])])
def test_some_rows_are_the_rows(at: Any) -> None:
    whole = lists([[1, 2], [], [7, 8, 9], [4]])
    np.testing.assert_array_equal(whole[at].padded(), whole.padded()[at])
    np.testing.assert_array_equal(apart(whole[at]).padded(), whole.padded()[at])
    np.testing.assert_array_equal(joined([whole[:1], whole[3:]]).padded(), whole.padded()[[0, 3]])
    assert len(apart(whole[at]).values) == int(whole[at].counts.sum())


def test_marked_values_count_for_every_row_that_shares_them() -> None:
    shared = Slices(np.array([5, 6, 7]), np.array([0, 1, 0]), np.array([2, 2, 3]), 3)
    assert shared.count(shared.values == 6) == 3
    assert shared.count(shared.values == 5) == 2


@pytest.mark.parametrize(
    ("size", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65_536, "uint16"), (65_537, "int32")]
)
def test_indices_take_the_room_that_they_need(size: int, dtype: str) -> None:
    made = narrow(np.array([0, size - 1]), size)
    assert made.dtype == dtype and made.tolist() == [0, size - 1]
