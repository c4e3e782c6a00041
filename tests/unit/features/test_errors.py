"""Does a hint name the nearest name, and stay short where there are a thousand?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ground.errors import LISTED, did_you_mean, listed, no_columns

NAMES = [f"column_{number:04}" for number in range(1_000)]


def test_the_nearest_name_is_told_and_few_are_listed() -> None:
    assert did_you_mean("citty", ["city", "age"]) == " (did you mean 'city'?)"
    assert did_you_mean("x", ["city", "age"]) == " (known: age, city)"
    assert did_you_mean("x", []) == ""


def test_of_many_names_the_first_are_listed() -> None:
    assert did_you_mean("x", NAMES) == (
        " (known: column_0000, column_0001, column_0002, column_0003, column_0004, column_0005, column_0006, "
        "column_0007 and 992 more)"
    )


@pytest.mark.parametrize("many", [1, LISTED, LISTED + 1])
def test_a_list_that_would_hardly_be_shorter_is_whole(many: int) -> None:
    assert listed(NAMES[:many]) == ", ".join(NAMES[:many])


def test_all_columns_that_are_absent_are_told_at_once() -> None:
    assert no_columns(["citty"], ["city", "age"]) == "no column 'citty' (did you mean 'city'?)"
    assert no_columns(["citty", "x"], ["city", "age"]) == "no columns 'citty' (did you mean 'city'?), 'x'"
    assert no_columns(["x", "y"], ["city", "age"]) == "no columns 'x', 'y' (known: age, city)"
    assert no_columns(["x", "y"], []) == "no columns 'x', 'y'"
    assert no_columns(NAMES[:20], ["price"]).endswith("'column_0007' and 12 more (known: price)")


@given(st.integers(0, 1_000))
def test_every_name_is_listed_or_counted(many: int) -> None:
    first, _, more = listed(NAMES[:many]).partition(" and ")
    shown = [name for name in first.split(", ") if name]
    assert shown == NAMES[: len(shown)] and len(shown) + int(more.removesuffix(" more") or 0) == many
    assert len(shown) <= LISTED + 1
