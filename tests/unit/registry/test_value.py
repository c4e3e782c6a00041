"""Does the score to rank by weigh probability with value, and is a product without a value noticed?"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.declaration import Declaration
from features.ground.errors import BadInputError
from registry.serving.value import ValueTable, expected_value

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
