"""Are served rows found among joined ones, and only those features told that differ?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.judge.watch_drift import joined as module
from components.judge.watch_drift.clusters import Clusters
from components.judge.watch_drift.joined import joined_cells, matched
from features.declaration import Declaration

ROLES = Declaration(feedback=("click",))
FEATURES = ("price", "kind", "count", "history", "vector")


def rows(n: int = 200) -> pa.Table:
    at = np.arange(n)
    return pa.table(
        {
            "user_id": pa.array(at % 20),
            "item_id": pa.array(at % 7),
            "event_timestamp": pa.array(1_700_000_000_000_000 + at * 1000, pa.timestamp("us", "UTC")),
            "price": pa.array([None if i % 9 == 0 else i / 3 for i in at]),
            "kind": pa.array([None if i % 5 == 0 else f"k{i % 3}" for i in at]),
            "count": pa.array(at, pa.int64()),
            "history": pa.array([[int(i), 2] if i % 4 else None for i in at]),
            "vector": pa.array([[i / 7, float("nan")] for i in at], pa.list_(pa.float64())),
        }
    )


def changed(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


@given(st.randoms(use_true_random=False), st.integers(1, 200))
def test_a_table_is_like_itself_in_any_order_and_any_width(random: Any, held: int) -> None:
    """An online store keeps float32, and a log the narrowest integers."""
    whole = rows()
    order = pa.array(random.sample(range(200), held))
    other = whole.take(order)
    other = changed(other, "price", other["price"].cast(pa.float32()))
    other = changed(other, "count", other["count"].cast(pa.int32()))
    other = changed(other, "vector", other["vector"].cast(pa.list_(pa.float32())))
    other = changed(other, "user_id", other["user_id"].cast(pa.string()))
    found = matched(whole, other, ROLES, FEATURES)
    assert sorted(found.places.tolist()) == sorted(order.to_pylist())
    assert {*found.differ} == {*FEATURES} and not any(differ.any() for differ in found.differ.values())


WRONG: dict[str, Any] = {
    "price": lambda value: None if value is None else value * 1.001,
    "kind": lambda value: value or "k0",
    "count": lambda value: value + 1 if value % 2 else value,
    "history": lambda value: value and value[::-1],
    "vector": lambda value: [value[0], 0.0],
}


@pytest.mark.parametrize("name", FEATURES)
def test_what_differs_is_told_at_its_rows_and_nothing_else(name: str) -> None:
    whole = rows()
    before = whole[name].to_pylist()
    after = [WRONG[name](value) for value in before]
    found = matched(whole, changed(whole, name, pa.array(after, whole[name].type)), ROLES, FEATURES)
    expected = [str(one) != str(other) for one, other in zip(before, after, strict=True)]
    assert any(expected) and found.differ.pop(name).tolist() == expected
    assert not any(differ.any() for differ in found.differ.values())


def test_of_many_rows_some_users_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPARED", 60)
    found = matched(rows(), rows(), ROLES, FEATURES)
    assert 0 < found.places.size < 200
    assert {*np.bincount(found.places % 20)} <= {0, 10}, "all ten rows of a user or none"


def test_a_feature_that_either_side_lacks_is_left_out() -> None:
    assert {*matched(rows(), rows().drop_columns(["kind"]), ROLES, (*FEATURES, "other")).differ} == {*FEATURES} - {
        "kind"
    }


def test_few_differences_are_none_and_many_are_certain() -> None:
    whole = rows(4000)
    for every, sure in ((500, False), (20, True)):
        other = [value + (at % every == 0) for at, value in enumerate(whole["count"].to_pylist())]
        found = matched(whole, changed(whole, "count", pa.array(other)), ROLES, ("count",))
        (cell,) = joined_cells(found, Clusters.of(np.arange(4000)), 0.01)
        assert cell.now == pytest.approx(1 / every) and cell.chance is not None and (cell.chance < 1e-6) == sure
