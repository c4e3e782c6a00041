"""Does a label compare the fields of a file as its rule is written, and refuse those that cannot be?"""

from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.ingest_table.reading.scan import Scan
from components.ingest.ingest_table.typed import label
from components.platform.errors import BadInputError
from features.rules.parse import parse
from tests.unit.components.ingest.table.conftest import Read

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
