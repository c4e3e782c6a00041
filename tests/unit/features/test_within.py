"""Does a row stand among those of its request as a person would count, and alike in training and in an answer?"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.declaration import Declaration, Within
from features.ground.errors import BadInputError
from features.within import with_within

DECLARATION = Declaration(
    feedback=("click",),
    request="visit",
    within={take: Within(of="price", take=take) for take in ("rank", "ratio", "gap")},
)
ROWS = pa.table({"visit": ["a", "b", "a", "a", "b", "c", "a"], "price": [30.0, 5.0, 10.0, 30.0, None, 0.0, math.nan]})


def test_ranks_ratios_and_gaps_are_of_the_request() -> None:
    made = with_within(ROWS, DECLARATION)
    assert made["rank"].to_pylist() == [2.5, 1.0, 1.0, 2.5, None, 1.0, None]
    assert made["ratio"].to_pylist() == pytest.approx([9 / 7, 1.0, 3 / 7, 9 / 7, None, None, None])
    assert made["gap"].to_pylist() == pytest.approx([20 / 3, 0.0, -40 / 3, 20 / 3, None, 0.0, None])
    assert made.select(ROWS.column_names) is not None and made.num_columns == 5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=30), st.randoms())
def test_neither_the_order_of_rows_nor_other_requests_matter(rows: list[tuple[int, int]], random: object) -> None:
    visit, price = np.array(rows).T
    whole = with_within(pa.table({"visit": visit, "price": price}), DECLARATION)
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    mixed = with_within(pa.table({"visit": visit[order], "price": price[order]}), DECLARATION)
    alone = visit == visit[0]
    one = with_within(pa.table({"visit": visit[alone], "price": price[alone]}), DECLARATION)
    for name in ("rank", "ratio", "gap"):
        values = np.array(whole[name].to_pylist(), dtype=float)
        assert np.array(mixed[name].to_pylist(), dtype=float) == pytest.approx(values[order], nan_ok=True)
        assert np.array(one[name].to_pylist(), dtype=float) == pytest.approx(values[alone], nan_ok=True)


def test_what_is_there_is_taken_and_what_is_missing_is_told() -> None:
    made = with_within(ROWS, DECLARATION)
    assert with_within(made.slice(0, 2), DECLARATION).equals(made.slice(0, 2))
    assert with_within(ROWS, Declaration(feedback=("click",))) is ROWS
    with pytest.raises(BadInputError, match="rows have no column 'visit', 'price', of which 'rank', 'ratio', 'gap' is"):
        with_within(pa.table({"x": [1]}), DECLARATION)
    with pytest.raises(BadInputError, match="within: column 'price' is String, which has no rank: name a number"):
        with_within(pa.table({"visit": ["a"], "price": ["9"]}), DECLARATION)
