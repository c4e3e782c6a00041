"""Does the score to rank by weigh probability with value, and is a product without a value noticed?"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.declaration import Declaration
from features.ground.errors import BadInputError
from registry.serving.scores.multiplier import Multiplier
from registry.serving.scores.value import ValueTable, expected_value

ROLES = Declaration(feedback=("click", "convert"), domain="product")
ROWS = pa.table({"product": ["card", "loan", "card", "home"]})
SHARE = st.floats(0, 1)


def scored(p: list[float], table: ValueTable) -> np.ndarray:
    tasks = {"click": np.ones(len(p)), "convert": np.array(p), "convert_given_click": np.array(p)}
    return expected_value(tasks, ROLES, table.of(ROWS.slice(0, len(p)), "product"))


def test_of_equal_probabilities_the_higher_value_wins() -> None:
    table = ValueTable(products={"card": 80.0, "loan": 900.0}, default=10.0)
    found = scored([0.1, 0.1, 0.2, 0.1], table)
    np.testing.assert_allclose(found, [8, 90, 16, 1])
    assert found.argsort()[::-1].tolist() == [1, 2, 0, 3]


@given(
    st.lists(SHARE, min_size=4, max_size=4), st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.integers(-8, 8)
)
def test_scaling_every_value_changes_no_order(p: list[float], worth: list[int], power: int) -> None:
    """Powers of two scale floats exactly, so that ties stay ties."""
    names = ("card", "loan", "home")
    plain = ValueTable(products=dict(zip(names, worth, strict=True)))
    scaled = ValueTable(products={name: value * 2.0**power for name, value in plain.products.items()})
    first, second = scored(p, plain), scored(p, scaled)
    np.testing.assert_array_equal(first[:, None] < first[None], second[:, None] < second[None])


def test_without_a_table_a_conversion_counts_as_one_and_no_product_is_needed() -> None:
    tasks = {"click": np.array([0.5]), "convert": np.array([0.2])}
    rows = pa.table({"x": [1]})
    assert expected_value(tasks, ROLES, ValueTable().of(rows, None)).tolist() == [0.2]
    assert expected_value({"click": np.array([0.5])}, ROLES, ValueTable(default=3.0).of(rows, None)).tolist() == [1.5]


def test_a_product_without_a_value_is_refused_unless_there_is_a_default() -> None:
    table = ValueTable(products={"card": 80.0, "loan": 900.0})
    with pytest.raises(BadInputError, match=r"product 'home' has no value \(1 of 4 rows") as error:
        table.of(ROWS, "product")
    assert "\n" not in str(error.value)
    assert table.model_copy(update={"default": 0.0}).of(ROWS, "product").tolist() == [80, 900, 80, 0]
    missing = pa.table({"product": pa.array([None, "card"], pa.string())})
    with pytest.raises(BadInputError, match="product None has no value"):
        table.of(missing, "product")
    with pytest.raises(BadInputError, match="no column 'product'"):
        table.of(pa.table({"x": [1]}), "product")


def test_a_table_is_checked_against_the_products_of_the_model() -> None:
    known = ("card", "home", "loan")
    assert ValueTable().check(known) == ValueTable()
    with pytest.raises(BadInputError, match=r"names product 'lone'.*did you mean 'loan'"):
        ValueTable(products={"lone": 1.0}).check(known)
    with pytest.raises(BadInputError, match=r"no number for product 'home' \(2 of 3"):
        ValueTable(products={"card": 1.0}).check(known)
    ValueTable(products={"card": 1.0}, default=2.0).check(known)
    with pytest.raises(BadInputError, match="names product 'card'"):
        ValueTable(products={"card": 1.0}).check(())


@pytest.mark.parametrize("value", [-0.01, math.inf, math.nan])
def test_a_value_is_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValidationError):
        ValueTable(products={"card": value})
    with pytest.raises(ValidationError):
        ValueTable(default=value)


BIDS = pa.table(
    {"product": ["card"] * 5, "bid": [2.0, None, 0.01, 9.0, 1.0], "place": ["top", "side", None, "x", "top"]}
)


def test_a_column_multiplies_within_its_bounds_and_one_without_a_value_by_the_default() -> None:
    bid = Multiplier(column="bid", least=0.1, most=5.0)
    assert bid.of(BIDS).tolist() == [2.0, 1.0, 0.1, 5.0, 1.0]
    place = Multiplier(column="place", factors={"top": 1.5, "side": 0.5}, default=0.25)
    assert place.of(BIDS).tolist() == [1.5, 0.5, 0.25, 0.25, 1.5]
    both = ValueTable(products={"card": 80.0}, multiply=(bid, place))
    np.testing.assert_allclose(both.of(BIDS, "product"), 80 * bid.of(BIDS) * place.of(BIDS), rtol=1e-15)
    nothing = BIDS.set_column(1, "bid", pa.nulls(5))
    assert bid.of(nothing).tolist() == [1.0] * 5
    assert Multiplier(column="bid").of(BIDS.set_column(1, "bid", pa.array([1, 2, 3, 4, 5]))).tolist() == [1, 2, 3, 4, 5]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=5), st.floats(0, 1e6))
def test_factors_of_one_change_no_bit(worth: list[float], value: float) -> None:
    rows = pa.table({"bid": pa.array([None] * len(worth), pa.float64()), "kind": ["a"] * len(worth)})
    plain = ValueTable(default=value)
    ones = plain.model_copy(
        update={"multiply": (Multiplier(column="bid"), Multiplier(column="kind", factors={"a": 1.0}))}
    )
    score = np.array(worth) * plain.of(rows, None)
    assert (np.array(worth) * ones.of(rows, None)).tobytes() == score.tobytes()
    assert "multiply" not in plain.model_dump() and ValueTable.model_validate(ones.model_dump()) == ones


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, -2.0]), r"'bid' holds -2, by which no score can be multiplied \(1 of 2 rows\)"),
        (pa.array([float("nan"), float("inf")]), r"'bid' holds nan.*\(2 of 2 rows\)"),
        (pa.array(["much", "2"]), "'bid' is string, and the score is multiplied by it: give numbers"),
    ],
)
def test_what_is_no_factor_is_one_sentence(column: pa.Array, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        ValueTable(multiply=(Multiplier(column="bid"),)).of(pa.table({"bid": column}), None)
    with pytest.raises(BadInputError, match="rows have no column 'bid', by which the score is multiplied"):
        ValueTable(multiply=(Multiplier(column="bid"),)).of(pa.table({"x": column}), None)


@pytest.mark.parametrize(
    "wrong", [{"least": 2.0, "most": 1.0}, {"factors": {"a": 1.0}, "most": 2.0}, {"default": -1.0}]
)
def test_bounds_that_cannot_hold_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Multiplier.model_validate({"column": "bid", **wrong})


def test_numbers_of_one_run_leave_the_factors_of_the_version() -> None:
    from pipelines.cli.score import chosen_value

    held = ValueTable(products={"card": 80.0}, multiply=(Multiplier(column="bid"),))
    served: Any = SimpleNamespace(value=held, contract=SimpleNamespace(schema_=SimpleNamespace(domains=("card",))))
    changed = chosen_value(served, ["card=2"], None)
    assert changed == ValueTable(products={"card": 2.0}, multiply=held.multiply)
