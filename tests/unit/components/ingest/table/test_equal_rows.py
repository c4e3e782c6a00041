"""Are equal rows found as if each were compared with every other one, of any type and in any order?"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.ingest_table import remarks

SCHEMA = {"number": pl.Int64, "share": pl.Float64, "text": pl.String, "flag": pl.Boolean, "list": pl.List(pl.Int64)}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.none() | st.integers(0, 2),
    "share": st.none() | st.sampled_from([0.0, -0.0, 0.5, float("nan"), -float("nan"), float("inf")]),
    "text": st.none() | st.sampled_from(["", "a"]),
    "flag": st.none() | st.booleans(),
    "list": st.none() | st.lists(st.integers(0, 1), max_size=2),
}


@given(st.data(), st.sets(st.sampled_from([*SCHEMA]), min_size=1))
def test_each_row_stays_once_and_the_first_of_equal_ones(data: st.DataObject, names: set[str]) -> None:
    columns = sorted(names)
    rows = data.draw(st.lists(st.tuples(*(VALUES[name] for name in columns)), max_size=12))
    frame = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in columns}, orient="row").with_row_index("at")
    found = remarks._firsts(frame.drop("at"))
    expected = frame.unique(columns, keep="first", maintain_order=True)
    assert found.equals(expected.drop("at"), null_equal=True)


def test_rows_that_only_share_a_hash_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.DataFrame, "hash_rows", lambda self, seed: pl.Series([7] * len(self), dtype=pl.UInt64))
    frame = pl.DataFrame({"x": [1, 2, 1, 3]})
    assert remarks._firsts(frame)["x"].to_list() == [1, 2, 3]
