"""Is the rule of a label read as it is written, and refused when it is none?"""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.ingest_table.reading.scan import Scan
from components.ingest.ingest_table.typed import label
from components.platform.errors import BadInputError
from features.ground.yaml_text import BLANKS
from features.rules.parse import Condition, Rule, parse
from tests.unit.components.ingest.table.conftest import Read


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


TABLE = pl.DataFrame(
    {
        "uid": ["a", "b", "c", "d"],
        "article": [1, 2, 3, 4],
        "shown_at": ["2026-01-01"] * 4,
        "kind": ["buy", "cart", "view", "wish"],
        "whole": [2**53 - 1, 2**53, 2**53 + 1, -(2**62)],
        "unsigned": pl.Series([0, 1, 2**63, 2**64 - 1], dtype=pl.UInt64),
        "part": [0.1, 4.0, 4.5, -0.5],
        "narrow": pl.Series([0.1, 0.2, 0.3, 0.4], dtype=pl.Float32),
        "text": ["9007199254740993", "4.50", "4", "-1e2"],
        "flag": [True, False, True, False],
        "sure": [1, 0, 1, 0],
        "bit": ["0", "1.0", "0", "0"],
        "money": pl.Series([Decimal("0.10"), Decimal("4.00"), Decimal("4.50"), Decimal(-1)], dtype=pl.Decimal(38, 2)),
    }
)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("rule", "positives"),
    [
        ("kind == 'buy' or kind in ('cart', 'wish')", "abd"),
        ("kind not in ('cart', 'wish')", "ac"),
        ("kind == 'buy ' or kind in (' wish')", "ad"),
        ("kind == 'view' or kind == 'buy' and flag == 0", "c"),
        ("whole == 9007199254740992", "b"),
        ("whole == 9007199254740993", "c"),
        ("whole in (9007199254740993, -4611686018427387904)", "cd"),
        ("whole > 9007199254740992", "c"),
        ("whole != 9007199254740993", "abd"),
        ("whole <= 4503599627370495.5", "d"),
        ("unsigned >= 9223372036854775808", "cd"),
        ("unsigned == 18446744073709551615 or unsigned == 1.0", "bd"),
        ("unsigned < 0.5", "a"),
        ("part >= 4.5", "c"),
        ("sure and not bit or whole == 9007199254740992", "abc"),
        ("not bit", "acd"),
        ("part == 0.1 or part in (4, 9)", "ab"),
        ("narrow == 0.1", "a"),
        ("narrow not in (0.1, 0.2)", "cd"),
        ("text == 9007199254740992", ""),
        ("text == 9007199254740993", "a"),
        ("text in (4.5, -100)", "bd"),
        ("money in (0.1, 4)", "ab"),
        ("money > 4", "c"),
    ],
)
def test_a_rule_compares_what_is_written(read: Read, suffix: str, rule: str, positives: str) -> None:
    if suffix == "csv" and "flag" in rule:
        rule = rule.replace("flag == 0", "flag == 'false'")
    table = TABLE if suffix == "parquet" else TABLE.write_csv()
    frame, _ = read({f"events.{suffix}": table}, feedback={"good": rule})
    assert "".join(frame.filter(pl.col("good") == 1)["user_id"].sort()) == positives


@given(
    st.integers(-(2**63), 2**63 - 1), st.integers(-(2**64), 2**64), st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
)
def test_whole_numbers_are_compared_as_whole_numbers(value: int, bound: int, op: str) -> None:
    for column in (pl.Series("x", [value]), pl.Series("x", [str(value)]), pl.Series("x", [f"{value}.0"])):
        frame = column.to_frame()
        (made,) = label("good", parse(f"x {op} {bound}"), Scan("e", frame.lazy(), frame.schema))
        compare = {"==": value == bound, "!=": value != bound, "<": value < bound, ">": value > bound}
        compare |= {"<=": value <= bound, ">=": value >= bound}
        assert frame.select(made.value).item() == compare[op]
        assert not frame.select(made.wrong).item()


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (
            "rounded == 9007199254740992",
            r"row 1: column 'rounded' is 9007199254740992.0, expected a whole number below",
        ),
        (
            "missing == 1 or uid == 'a'",
            r"row 1: column 'missing' is empty \(and 1 more rows\), expected a finite number",
        ),
        ("missing == 'x'", r"row 1: column 'missing' is empty \(and 1 more rows\), expected a text"),
        ("uid == 'a' or part >= 1", r"row 2: column 'part' is nan, expected a finite number"),
        ("part == 'x'", r"column 'part' is float64, which is not compared as a text: change the type"),
        ("lists == 1", r"column 'lists' is list\(int64\), which is not compared as a finite number: change the type"),
    ],
)
def test_what_cannot_be_compared_is_told(read: Read, rule: str, sentence: str) -> None:
    table = TABLE.head(2).with_columns(
        rounded=pl.Series([2.0**53, 1.0]),
        missing=None,
        part=pl.Series([1.0, float("nan")]),
        lists=pl.Series([[1], [2]]),
    )
    with pytest.raises(BadInputError, match=sentence):
        read({"events.parquet": table}, feedback={"good": rule})
