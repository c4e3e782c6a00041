"""Does every value keep its meaning in the dtype that its feature view declares, or is its row named?"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ground.errors import BadInputError
from features.joins.table_types import cast, filled

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def made(values: list[Any], dtype: str, given: Any = None) -> list[Any]:
    column = pl.Series("price", values, given)
    return cast(column, dtype, "shop", {"user_id": pl.Series([f"u{row}" for row in range(len(column))])}).to_list()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (34.6, "int64"), (-0.9, "int64"), (float("nan"), "int64"), (1e30, "int64"), (float("inf"), "int64"),
        (2**31, "int32"), (Decimal("1.5"), "int64"), ("007", "int64"), ("12.5", "int64"), ("abc", "float64"),
        (9007199254740993, "float64"), (16777217, "float32"), (2**63 - 1, "float64"), (1e39, "float32"),
        (30, "bool"), (0.5, "bool"), ("true", "bool"), (1767225600, "unix_timestamp"), ("2026-01-01", "unix_timestamp"),
        ([1.0, 2.5], "array<int64>"), ([16777217], "array<float32>"), ([1, 5], "array<bool>"), (["a"], "array<int64>"),
    ],
)  # fmt: skip
def test_a_value_that_would_change_is_refused_with_its_row(value: Any, dtype: str) -> None:
    with pytest.raises(BadInputError) as caught:
        made([None, value], dtype)
    said = str(caught.value)
    assert said.startswith("shop: 'price' is ") and "in the row of user_id u1, which" in said and "\n" not in said
    assert "change the dtype in the feature view" in said


def test_nanoseconds_are_refused_and_a_list_is_no_scalar() -> None:
    with pytest.raises(BadInputError, match="cannot hold without loss"):
        made([1], "unix_timestamp", pl.Datetime("ns", "UTC"))
    with pytest.raises(BadInputError, match=r"is List\(Int64\), not int64"):
        made([[1]], "int64")
    with pytest.raises(BadInputError, match=r"is Int64, not array<int64>"):
        made([1], "array<int64>")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (34.0, "int64", 34), (-0.0, "int64", 0), (2**53 + 1, "int64", 2**53 + 1), ("12", "int64", 12),
        (Decimal("34.00"), "int64", 34), (True, "int64", 1), (16777216, "float32", 16777216.0), (1, "bool", True),
        (0.1, "float32", pytest.approx(0.1)), (float("inf"), "float32", float("inf")), ("1.50", "float64", 1.5),
        (12, "string", "12"), (WHEN, "unix_timestamp", WHEN), (date(2026, 1, 1), "unix_timestamp", WHEN),
        ([1.0, None], "array<int64>", [1, None]), ([], "array<int64>", []), (None, "array<int64>", None),
    ],
)  # fmt: skip
def test_a_value_that_keeps_its_meaning_is_cast(value: Any, dtype: str, expected: Any) -> None:
    assert made([value, None], dtype, pl.List(pl.Float64) if isinstance(value, list) else None) == [expected, None]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_whole_numbers_survive_as_floats_or_are_refused(values: list[int | None]) -> None:
    exact = all(value is None or int(float(value)) == value for value in values)
    try:
        found = made(values, "float64", pl.Int64)
    except BadInputError:
        assert not exact
    else:
        assert exact and [None if value is None else int(value) for value in found] == values


def test_a_gap_in_a_list_has_one_value_of_its_type() -> None:
    words = pl.Series("city", [["Rom", None], [], None, [None]])
    assert filled(words, "array<string>", "shop").to_list() == [["Rom", ""], [], None, [""]]
    numbers = pl.Series("qty", [[0, None], None])
    assert filled(numbers, "array<int64>", "shop").to_list() == [[0, -(2**63)], None]
    with pytest.raises(BadInputError, match=r"a list of 'flag' has a missing element.*Array\(Int64\)"):
        filled(pl.Series("flag", [[True, None]]), "array<bool>", "shop")
