"""Is the rule of a label read as it is written, and refused when it is none?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest_table.rule import Condition, Rule, parse


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("clicked", Rule("clicked")),
        (" `was it clicked?` ", Rule("was it clicked?")),
        ("rating >= 4", Rule(None, (Condition("rating", ">=", 4.0),))),
        ("rating>=-4.5e1", Rule(None, (Condition("rating", ">=", -45.0),))),
        (
            "status == 'paid' and price > 0 and `a b` != \"x and y\"",
            Rule(
                None,
                (Condition("status", "==", "paid"), Condition("price", ">", 0.0), Condition("a b", "!=", "x and y")),
            ),
        ),
        ("land == 1", Rule(None, (Condition("land", "==", 1.0),))),
    ],
)
def test_a_rule_is_what_is_written(text: str, rule: Rule) -> None:
    assert parse(text) == rule


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "'the end'"),
        ("rating >=", "'>='"),
        ("rating >= four", "'>= four'"),
        ("rating = 4", "'= 4'"),
        ("4 <= rating", "'4 <= rating'"),
        ("rating >= 4 or paid == 1", "'or paid == 1'"),
        ("rating >= 4 and", "'the end'"),
        ("rating >= 4 and clicked", "clicked == 1"),
        ("status > 'a'", "compared with == or !="),
        ("__import__('os')", "\"('os')\""),
        ("a == 1 and2 b == 1", "and2"),
        ("nan >= nan", "'>= nan'"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(text: str, about: str) -> None:
    with pytest.raises(ValueError, match="must be the name of a 0/1 column") as caught:
        parse(text)
    assert about in str(caught.value)


@given(st.text())
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    try:
        rule = parse(text)
    except ValueError:
        return
    assert rule.columns and all(column in text for column in rule.columns)
