"""Does a rule about bounds find the same rows in whole columns as in one value after the other?"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from great_expectations.expectations.metrics import ColumnValuesBetween
from hypothesis import given
from hypothesis import strategies as st

from components.data.validate_data import gx_adapter, gx_columns
from components.data.validate_data.gx_adapter import check
from components.data.validate_data.gx_columns import between, only_what_is_read
from features.suites import read

NUMBERS = [pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.bool_()]
TIMES = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in ("UTC", "Europe/Berlin", None)]
AROUND = [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 0.0, 0.5, float("nan"), float("inf"), 2.0**53, True, "1", None]
MOMENTS = [
    datetime(2026, 1, 1),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    None,
]


def own(column: pd.Series, **bounds: Any) -> list[bool] | str:
    """Return what the engine's own comparison says of each value, or that it says nothing."""
    try:
        return [bool(x) for x in inspect.unwrap(ColumnValuesBetween._pandas)(ColumnValuesBetween, column, **bounds)]
    except (TypeError, ValueError) as error:
        return type(error).__name__


def series(values: list[Any], dtype: pa.DataType) -> pd.Series:
    return pd.Series(pd.array(values, dtype=pd.ArrowDtype(dtype)), index=range(7, 7 + len(values)))


def values_of(dtype: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_timestamp(dtype):
        return st.sampled_from(
            [moment for moment in MOMENTS if moment and (moment.tzinfo is None) == (dtype.tz is None)]
        )
    if pa.types.is_integer(dtype):
        high = 2 ** (dtype.bit_width - (0 if dtype == pa.uint64() else 1)) - 1
        low = 0 if dtype == pa.uint64() else -high - 1
        return st.one_of(st.integers(low, high), st.sampled_from([v for v in (0, 1, 2**53, 2**53 + 1) if v <= high]))
    if pa.types.is_floating(dtype):
        return st.floats(width=32 if dtype == pa.float32() else 64)
    return st.booleans() if dtype == pa.bool_() else st.text("01a", max_size=2)


@given(st.data(), st.sampled_from([*NUMBERS, *TIMES]), st.booleans(), st.booleans())
def test_whole_columns_answer_as_values_do(
    data: st.DataObject, dtype: pa.DataType, strict_min: bool, strict_max: bool
) -> None:
    column = series(data.draw(st.lists(values_of(dtype), max_size=6)), dtype)
    around = st.sampled_from(MOMENTS if pa.types.is_timestamp(dtype) else AROUND)
    bounds = {"min_value": data.draw(around), "max_value": data.draw(around)}
    strict = {"strict_min": strict_min, "strict_max": strict_max}
    found = between(column, **bounds, **strict)
    if found is not None:
        assert found.index.equals(column.index) and found.dtype == bool
        assert found.tolist() == own(column, **bounds, **strict)


@pytest.mark.parametrize(
    ("dtype", "value", "bound"),
    [
        (pa.int64(), 5, 7),
        (pa.float32(), 0.5, 1),
        (pa.float64(), 0.5, 0.75),
        (pa.timestamp("us", "UTC"), MOMENTS[1], MOMENTS[2]),
        (pa.timestamp("us"), MOMENTS[0], MOMENTS[0]),
    ],
)
def test_the_usual_columns_are_looked_at_whole(dtype: pa.DataType, value: Any, bound: Any) -> None:
    found = between(series([value], dtype), None, bound)
    assert found is not None and found.tolist() == [True]


def test_a_suite_finds_the_same_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("""
expectations:
  - {expect: expect_table_columns_to_match_set, column_set: [id, at, x, name, unread]}
  - {expect: expect_column_values_to_be_between, column: id, min_value: 20}
  - {expect: expect_column_values_to_be_between, column: x, max_value: 0.5, strict_max: true}
  - {expect: expect_column_values_to_be_between, column: at, min_value: "2026-01-02"}
  - {expect: expect_column_values_to_be_between, column: name, min_value: 3}
  - {expect: expect_column_values_to_be_between, column: id, max_value: 50, where: {column: name, op: "==", value: a}}
  - {expect: expect_column_values_to_not_be_null, column: x}
  - {expect: expect_column_pair_values_a_to_be_greater_than_b, column_A: id, column_B: x}
  - {expect: expect_column_type_to_be, column: at, type_: "timestamp[us, tz=UTC]"}
  - {expect: expect_compound_columns_to_be_unique, column_list: [id, name]}
""")
    suite = read(path)
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "id": rng.integers(0, 100, 300),
            "at": pa.array((1_767_225_600 + rng.integers(0, 3 * 86_400, 300)) * 10**6, pa.timestamp("us", "UTC")),
            "x": pa.array(rng.random(300), mask=rng.random(300) < 0.1),
            "name": pa.array(rng.choice(["a", "b", "c"], 300)),
            "unread": pa.array([[1]] * 300),
        }
    )
    quick = check(table, np.arange(300), suite, suite.contract.expectations, {})
    monkeypatch.setattr(gx_columns, "between", lambda *args, **bounds: None)
    monkeypatch.setattr(gx_adapter, "only_what_is_read", lambda table, rules: table)
    assert quick == check(table, np.arange(300), suite, suite.contract.expectations, {})
    assert sum(len(one.rows) for one in quick) > 100 and any(one.problem for one in quick)


def test_what_no_rule_names_is_not_handed_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    rule = "expect: expect_compound_columns_to_be_unique, column_list: [a, b], where: {column: c, op: '>', value: 1}"
    path.write_text(f"expectations:\n  - {{{rule}}}\n")
    table = pa.table({name: [1, 2] for name in "abcd"})
    handed = only_what_is_read(table, read(path).contract.expectations)
    assert handed.column_names == table.column_names and handed.num_rows == 2
    assert [name for name in "abcd" if handed[name].null_count] == ["d"]
