"""Is a comparison of two columns exact, whatever types the file has for them, and one of two kinds refused?"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.ingest.ingest_table.reading.scan import Scan
from components.ingest.ingest_table.typed import label, refuse
from components.platform.errors import BadInputError
from features.rules.parse import parse

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def told(rule: str, left: pl.Series, right: pl.Series) -> list[int]:
    """Return the label of each row of a file with columns `a` and `b`."""
    frame = pl.DataFrame({"a": left, "b": right})
    scan = Scan("e", frame.lazy(), frame.schema)
    made = label("good", parse(rule), scan)
    refuse(scan, made, scan.rows)
    return frame.select(made[-1].value).to_series().to_list()


def compared(left: Any, right: Any, op: str) -> bool:
    """Return how the label of one row is told, by column types as they are given."""
    return bool(told(f"a {op} b", pl.Series([left]), pl.Series([right]))[0])


WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(2**53 - 3, 2**53 + 3) | st.integers(-2, 2)
FLOAT = st.floats(-1e30, 1e30) | st.floats(-3, 3) | st.integers(-(2**53) + 1, 2**53 - 1).map(float)
OP = st.sampled_from(list(OPERATORS))


@given(WHOLE, WHOLE, OP)
@example(2**53, 2**53 + 1, "==")
@example(2**53, 2**53 + 1, "<")
def test_whole_numbers_are_compared_as_whole_numbers(left: int, right: int, op: str) -> None:
    assert compared(left, right, op) == OPERATORS[op](left, right)
    if op not in ("==", "!="):  # texts are equal as texts
        assert compared(str(left), f"{right}.0", op) == OPERATORS[op](left, right)


@given(WHOLE, FLOAT, OP)
@example(2**53 + 1, 2.0**53, "<=")
@example(0, -1e-20, ">")
def test_a_whole_number_and_one_with_a_fraction_are_compared_exactly(left: int, right: float, op: str) -> None:
    if op in ("==", "!=") and abs(right) >= 2**53:
        with pytest.raises(BadInputError, match=r"column 'b' is .*, expected a whole number below"):
            compared(left, right, op)
    else:
        assert compared(left, right, op) == OPERATORS[op](Fraction(left), Fraction(right))


@given(st.floats(-1e15, 1e15) | st.floats(-1, 1), st.floats(-1e15, 1e15) | st.floats(-1, 1), OP)
def test_numbers_with_a_fraction_are_compared_as_floats_are(left: float, right: float, op: str) -> None:
    assert compared(left, right, op) == OPERATORS[op](left, right)
    if op not in ("==", "!="):
        assert compared(repr(left), repr(right), op) == OPERATORS[op](left, right)


@pytest.mark.parametrize(
    ("rule", "left", "right", "labels"),
    [
        ("a == b", ["x ", "7", "A"], [" x", "7.0", "a"], [1, 0, 0]),
        ("a != b", pl.Series(["x", "y"], dtype=pl.Categorical), ["x", "x"], [0, 1]),
        ("a == b and a != 'x' or b == 'z'", ["x", "y", "z"], ["x", "y", "z"], [0, 1, 1]),
        ("a < b", ["9", "10", "1e1"], ["10", "9", "10.5"], [1, 0, 1]),
        ("a < b", ["2026-01-01 10:00", "2026-01-02"], ["2026-01-01T10:00:01Z", "2026-01-02T00:00+01:00"], [1, 0]),
        ("a == b", [True, False], [1, 2], [1, 0]),
        ("a == b", ["x", " ", None, None], ["x", "x", "x", None], [1, 0, 0, 0]),
        ("a == b", [1, None, 3], pl.Series([1.0, 2.0, None]), [1, 0, 0]),
        ("a == b", pl.Series([None], dtype=pl.Null), [1], [0]),
        ("a == b or a >= b", [1, 2], [1, 3], [1, 0]),
        ("a == b", [Decimal("0.10"), Decimal("4.00")], [0.1, 4.5], [1, 0]),
        ("a <= b", pl.Series([2**64 - 1, 0], dtype=pl.UInt64), [-1, 0], [0, 1]),
        ("a >= b", [date(2026, 1, 2), date(2026, 1, 1)], [date(2026, 1, 1), date(2026, 1, 2)], [1, 0]),
    ],
)
def test_a_kind_is_compared_with_itself(rule: str, left: Any, right: Any, labels: list[int]) -> None:
    assert told(rule, pl.Series(left), pl.Series(right)) == labels


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_moments_of_two_units_are_compared_to_the_finest_digit(zone: str | None) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC if zone else None)
    fine = pl.Series([at, at]).cast(pl.Datetime("ns", zone)) + pl.Series([1, 0], dtype=pl.Duration("ns"))
    coarse = pl.Series([at, at + timedelta(milliseconds=1)]).cast(pl.Datetime("ms", zone))
    assert told("a > b", fine, coarse) == [1, 0] and told("a != b", fine, coarse) == [1, 1]


@pytest.mark.parametrize(
    ("rule", "left", "right", "said"),
    [
        ("a == b", [7], ["7"], "e: columns 'a', which is int64, and 'b', which is string, are not compared by =="),
        ("a < b", [datetime(2026, 1, 1)], [datetime(2026, 1, 1, tzinfo=UTC)], "are not compared by <"),
        ("a == b", [[1]], [[1]], r"columns 'a', which is list\(int64\), and"),
        ("a != b", ["x", " "], ["x", "y"], "row 2: column 'a' is .*, expected a text"),
        ("a != b", ["x", "x"], ["x", None], "row 2: column 'b' is empty, expected a text"),
        ("a < b", [1, None], [2, 2], "row 2: column 'a' is empty, expected a finite number"),
        ("a == b", [1.0, float("nan")], [2, 2], "row 2: column 'a' is nan, expected a finite number"),
        ("a < b", [1, 2], [1.0, float("nan")], "row 2: column 'b' is nan, expected a finite number of at most 1e"),
        ("a < b", ["1", "open"], ["2", "2"], "row 2: column 'a' is 'open', expected a finite number of at most"),
        ("a < b", ["1", "2"], ["2", "2026-01-01"], "row 2: column 'b' is '2026-01-01', expected a number or a time"),
        ("a != b", pl.Series([None], dtype=pl.Null), [1], "row 1: column 'a' is empty, expected a finite number"),
    ],
)  # fmt: skip
def test_what_two_columns_cannot_tell_is_refused(rule: str, left: Any, right: Any, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        told(rule, pl.Series(left), pl.Series(right))
