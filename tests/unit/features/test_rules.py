"""Is a rule read as it is written, and refused when it is none?"""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ground.yaml_text import BLANKS
from features.rules.parse import Condition, Rule, parse


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("clicked", Rule("clicked")),
        (" `was it clicked?` ", Rule("was it clicked?")),
        ("rating >= 4", Rule(None, ((Condition("rating", ">=", 4),),))),
        ("rating>=-4.5e1", Rule(None, ((Condition("rating", ">=", -45.0),),))),
        (
            "status == 'paid' and price > 0 and `a b` != \"x and y\"",
            Rule(
                None,
                ((Condition("status", "==", "paid"), Condition("price", ">", 0), Condition("a b", "!=", "x and y")),),
            ),
        ),
        ("land == 1", Rule(None, ((Condition("land", "==", 1),),))),
        ("order == 1", Rule(None, ((Condition("order", "==", 1),),))),
        ("id == 9007199254740993", Rule(None, ((Condition("id", "==", 9007199254740993),),))),
        (
            "kind == 'buy' or kind in ('cart', \"wish, list\") and n not  in(1,2.5 , )",
            Rule(
                None,
                (
                    (Condition("kind", "==", "buy"),),
                    (Condition("kind", "in", ("cart", "wish, list")), Condition("n", "not in", (1, 2.5))),
                ),
            ),
        ),
        (
            "status == 'paid ' or kind in (' buy', '\tcart and\u3000')",
            Rule(None, ((Condition("status", "==", "paid"),), (Condition("kind", "in", ("buy", "cart and")),))),
        ),
        (
            "a == b and `c d`<`e f` or g.h >= 1",
            Rule(
                None,
                (
                    (Condition("a", "==", other="b"), Condition("c d", "<", other="e f")),
                    (Condition("g.h", ">=", 1),),
                ),
            ),
        ),
        (
            "paid and not `sent back` or not bad",
            Rule(
                None,
                ((Condition("paid", "is", 1), Condition("sent back", "is", 0)), (Condition("bad", "is", 0),)),
            ),
        ),
        ("not in ('in')", Rule(None, ((Condition("not", "in", ("in",)),),))),
        ("in in ('in')", Rule(None, ((Condition("in", "in", ("in",)),),))),
    ],
)
def test_a_rule_is_what_is_written(text: str, rule: Rule) -> None:
    assert parse(text) == rule


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "'the end'"),
        ("rating >=", "'>='"),
        ("rating >= 4four", "'four' cannot be read"),
        ("rating >= `rating`", "'rating' is compared with itself"),
        ("kind in (a, b)", "'in (a, b)'"),
        ("rating = 4", "'= 4'"),
        ("4 <= rating", "'4 <= rating'"),
        ("rating >= 4 or paid == not sent", "'sent' cannot be read"),
        ("rating >= 4 xor paid == 1", "'xor paid == 1'"),
        ("(a == 1 or b == 1) and c == 1", "'(a == 1"),
        ("kind in ()", "'in ()'"),
        ("kind in 'buy'", "\"in 'buy'\""),
        ("kind in ('buy', 1)", "quote all or none"),
        ("a == 1e400", "too large"),
        ("a == 9007199254740992.5", "more digits than a comparison holds"),
        ("a == 1e-9999", "cannot be read"),
        ("a == 9999999999999999999999999999999999", "too large"),
        ("rating >= 4 and", "'the end'"),
        ("rating >= 4 and not", "'not' joins comparisons and is no column"),
        ("status > 'a'", "compared with ==, != or in"),
        ("__import__('os')", "\"('os')\""),
        ("a == 1 and2 b == 1", "and2"),
        ("status != ''", "is an empty field"),
        ("status in ('paid', ' ')", "is an empty field"),
        ("nan >= nan", "'nan' is compared with itself"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(text: str, about: str) -> None:
    with pytest.raises(ValueError, match="must be the name of a 0/1 column") as caught:
        parse(text)
    assert about in str(caught.value)


def test_the_config_s_texts_lose_the_blanks_that_a_file_s_lose() -> None:
    signs = [chr(code) for code in range(0x11_0000) if not 0xD800 <= code < 0xE000]
    left = pl.Series(signs).str.strip_chars()
    assert [sign for sign, rest in zip(signs, left, strict=True) if not rest] == sorted(BLANKS)


@given(st.text())
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    try:
        rule = parse(text)
    except ValueError:
        return
    assert rule.columns and all(column in text for column in rule.columns)
