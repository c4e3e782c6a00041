"""Is a column read in the bins of its baseline, whatever has become of it meanwhile?"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from components.judge.watch_drift.fields import coded
from features.ground.errors import BadInputError
from registry.serving.evidence.baseline import LONGEST, Categories, Lists, Numbers, _spread


def column(values: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


COLUMNS = {
    "numbers": column([1.0, 2.5, None, float("nan"), 3.5, 3.5]),
    "times": column([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 9)]),
    "words": column(["a", "b", "a", None]),
    "ids": column([3, 3, 4], pa.int64()),
    "lists": column([[1], [], None, [1, 2, 3]]),
    "long words": column(["x" * LONGEST + "1", "x" * LONGEST + "2", "y"]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_rows_of_a_baseline_lie_as_it_says(name: str) -> None:
    values = COLUMNS[name]
    spread = _spread(values, None)
    found = coded(name, spread, values)
    assert found is not None and len(found.names) == found.expected.size
    assert 1 - found.there.mean() == pytest.approx(spread.missing)
    np.testing.assert_allclose(
        np.bincount(found.codes, minlength=found.expected.size) / found.codes.size, found.expected
    )


def test_new_values_are_any_other() -> None:
    spread = Categories(missing=0.0, values=("a", "b"), shares=(0.5, 0.4), rest=0.1, unknown=None)
    found = coded("kind", spread, column(["c", "b", None, "a", "d"]))
    assert found is not None and found.codes.tolist() == [2, 1, 0, 2] and found.names[-1] == "any other"


def test_a_column_that_nobody_knows_any_more_has_no_value() -> None:
    for spread in (
        Lists(missing=0.0, edges=(2.0,), shares=(0.5, 0.5), unknown=None),
        Numbers(missing=0.0, edges=(2.0,), shares=(0.5, 0.5)),
        Categories(missing=0.0, values=("a",), shares=(1.0,), rest=0.0, unknown=None),
    ):
        found = coded("gone", spread, column([None, None]))
        assert found is not None and not found.codes.size and not found.there.any()


def test_a_column_of_another_kind_is_a_sentence() -> None:
    spread = Lists(missing=0.0, edges=(2.0,), shares=(0.5, 0.5), unknown=None)
    with pytest.raises(BadInputError, match=r"'history' is int64 now, and was a list when the version was judged"):
        coded("history", spread, column([1, 2]))


def test_a_baseline_without_values_compares_nothing() -> None:
    assert coded("empty", Numbers(missing=1.0, edges=(), shares=(0.0,)), column([1.0])) is None
