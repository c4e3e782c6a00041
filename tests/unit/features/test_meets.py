"""Does a condition over a typed table hold where it can be told, and nowhere else?"""

from __future__ import annotations

import polars as pl
import pytest

from features.ground.errors import BadInputError
from features.rules.meets import holds
from features.rules.parse import parse

EVENTS = pl.DataFrame(
    {
        "click": pl.Series([1, 1, 0, None], dtype=pl.Int8),
        "like": pl.Series([0, 1, 0, 0], dtype=pl.Int8),
        "price": [float("nan"), 5.0, None, 7.0],
        "tab": ["home", None, "home", "top"],
        "shop": ["home", "x", None, "y"],
        "tags": [["a"], [], None, ["b"]],
    }
)


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("click", [0, 1]),
        ("click and not like", [0]),
        ("not click", [2]),
        ("price >= 5", [1, 3]),
        ("price != 5", [3]),
        ("price < 5 or like", [1]),
        ("tab == 'home'", [0, 2]),
        ("tab != 'home' or click", [0, 1, 3]),
        ("tab == shop", [0]),
    ],
)
def test_a_condition_with_a_missing_value_is_not_met(rule: str, rows: list[int]) -> None:
    met = EVENTS.select(holds(parse(rule), EVENTS.schema, "log 'events'")).to_series()
    assert met.arg_true().to_list() == rows and not met.null_count()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("clck", r"log 'events' has no column 'clck' \(did you mean 'click'\?\): correct the rule"),
        ("tags == 1", r"log 'events': column 'tags' is list\(string\), which is not compared as a finite number"),
        ("tab", "log 'events': column 'tab' is string, which is not compared as 0 or 1: change the type"),
        ("tab == price", "log 'events': columns 'tab', which is string, and 'price', which is float64, are not"),
    ],
)
def test_what_cannot_be_compared_is_told(rule: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        EVENTS.select(holds(parse(rule), EVENTS.schema, "log 'events'"))
