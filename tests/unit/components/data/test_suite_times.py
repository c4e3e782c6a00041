"""Can a suite write a date where a column of timestamps is compared with one?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.data.validate_data.gx_adapter import Finding, check
from components.platform.errors import BadInputError
from features.suites import read

MOMENTS = [
    datetime(2025, 12, 31, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 2, 12, tzinfo=UTC),
    None,
]


def found(folder: Path, rule: str, zone: str | None) -> Finding:
    path = folder / "mine.yaml"
    path.write_text(f"expectations:\n  - {{{rule}}}\n")
    suite = read(path)
    times = pa.array(MOMENTS, pa.timestamp("us", "UTC")).cast(pa.timestamp("us", zone))
    table = pa.table({"t": times, "x": [0, 1, 1, 1]})
    (one,) = check(table, np.arange(len(MOMENTS)), suite, suite.contract.expectations, {})
    assert not one.problem
    return one


@pytest.mark.parametrize("zone", ["UTC", None])
@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ('expect: expect_column_values_to_be_between, column: t, min_value: "2026-01-01"', (0,)),
        ("expect: expect_column_values_to_be_between, column: t, min_value: 2026-01-01", (0,)),
        ('expect: expect_column_values_to_be_between, column: t, max_value: "2026-01-01T00:00:00+01:00"', (1, 2)),
        ('expect: expect_column_values_to_be_in_set, column: t, value_set: ["2026-01-01", "2025-12-31"]', (2,)),
        (
            "expect: expect_column_values_to_be_between, column: x, max_value: 0, "
            'where: {column: t, op: ">=", value: "2026-01-02"}',
            (2,),
        ),
    ],
)
def test_a_date_is_compared_with_timestamps(tmp_path: Path, rule: str, rows: tuple[int, ...], zone: str | None) -> None:
    one = found(tmp_path, rule, zone)
    assert (one.rows, one.passed) == (rows, False)


def test_the_largest_timestamp_is_compared_with_a_date(tmp_path: Path) -> None:
    rule = "expect: expect_column_max_to_be_between, column: t, max_value: "
    assert found(tmp_path, f'{rule}"2026-01-03"', "UTC").passed
    assert not found(tmp_path, f'{rule}"2026-01-02"', "UTC").passed


def test_a_text_that_is_no_time_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"mine.yaml:2: .*'soon' is no time such as 2026-01-01 or .*; correct the"):
        found(tmp_path, "expect: expect_column_values_to_be_between, column: t, min_value: soon", "UTC")


def test_conditions_on_sets_of_times_are_refused(tmp_path: Path) -> None:
    condition = "where: {column: t, op: in, value: ['2026-01-01']}"
    rule = f"expect: expect_column_values_to_be_between, column: x, max_value: 0, {condition}"
    with pytest.raises(BadInputError, match=r"mine.yaml:2: .*For IN operator"):
        found(tmp_path, rule, "UTC")
