"""Is everything that can be wrong with a table told in one sentence that says where it is?"""

from __future__ import annotations

import gzip
import re
from typing import Any

import polars as pl
import pytest

from components.ingest.ingest_table.config import Config
from components.platform.errors import BadInputError, MissingError
from tests.unit.components.ingest.table.conftest import HEADER, ROWS, Read, csv

GOOD = "u1,7,2026-01-01 10:00:00,1,4,9.5,paid"


def row(**changes: str) -> str:
    """Return a good row with some fields replaced."""
    return ",".join((dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | changes).values())


FIELDS = [
    ("uid", "", {}, r"row 2: column 'uid' is empty, expected a text"),
    ("article", "x7", {}, r"row 2: column 'article' is 'x7', expected a whole number"),
    ("article", "7.5", {}, r"column 'article' is '7.5', expected a whole number"),
    ("shown_at", "yesterday", {}, r"row 2: column 'shown_at' is 'yesterday', expected a time such as"),
    ("shown_at", "2026-02-30", {}, r"'2026-02-30', expected a time"),
    ("shown_at", "", {}, r"'shown_at' is empty, expected a time"),
    (
        "shown_at",
        "1767268800",
        {"timestamp": {"column": "shown_at", "unit": "ms"}},
        r"a time in milliseconds since 1970",
    ),
    ("shown_at", "1767268800000", {"timestamp": {"column": "shown_at", "unit": "s"}}, r"a time in seconds since 1970"),
    ("clicked", "-1", {}, r"column 'clicked' is '-1', expected 0 or 1"),
    ("clicked", "0.5", {}, r"column 'clicked' is '0.5', expected 0 or 1"),
    ("clicked", "", {}, r"column 'clicked' is empty, expected 0 or 1"),
    ("clicked", "nan", {}, r"column 'clicked' is 'nan', expected 0 or 1"),
    ("rating", "", {"feedback": {"like": "rating >= 4"}}, r"column 'rating' is empty, expected a finite number"),
    ("rating", "NaN", {"feedback": {"like": "rating >= 4"}}, r"column 'rating' is 'NaN', expected a finite number"),
    (
        "rating",
        "good",
        {"feedback": {"like": "status == 'paid' and rating >= 4"}},
        r"column 'rating' is 'good', expected a finite number",
    ),
    ("status", "", {"feedback": {"buy": "status == 'paid'"}}, r"column 'status' is empty, expected a text"),
    ("price", "inf", {"columns": {"price": "float64"}}, r"column 'price' is 'inf', expected a finite number"),
    (
        "price",
        "",
        {"columns": {"price": {"type": "float64", "required": True}}},
        r"'price' is empty, expected a finite",
    ),
    ("status", "maybe", {"columns": {"status": "bool"}}, r"column 'status' is 'maybe', expected true or false"),
    ("status", "1|b", {"columns": {"status": "array<int64>"}}, r"'1\|b', expected whole numbers separated by '\|'"),
    ("status", "['a' 'b']", {"columns": {"status": "array<string>"}}, r"expected values separated by '\|', without"),
    ("status", "[]", {"columns": {"status": "array<string>"}}, r"'\[\]', expected values separated by '\|', without"),
    ("price", "0", {"propensity": "price"}, r"column 'price' is '0', expected a chance above 0 and at most 1"),
    ("price", "1.01", {"propensity": "price"}, r"'1.01', expected a chance above 0"),
    ("status", "", {"domain": "status"}, r"column 'status' is empty, expected a text"),
    ("status", "x", {"created": "status"}, r"column 'status' is 'x', expected a time such as"),
]


def harmless(config: dict[str, Any]) -> dict[str, str]:
    """Return values of the first row that fit a config which asks other columns than usual."""
    found: dict[str, str] = {}
    time = config.get("timestamp")
    if isinstance(time, dict):
        found["shown_at"] = {"s": "1767268800", "ms": "1767268800000"}[time["unit"]]
    if "propensity" in config:
        found["price"] = "1"
    if "created" in config:
        found["status"] = "2026-01-02"
    kind = config.get("columns", {}).get("status")
    return found | ({"status": {"bool": "true", "array<int64>": "1|2", "array<string>": "[a]|b"}[kind]} if kind else {})


@pytest.mark.parametrize(("column", "value", "config", "sentence"), FIELDS)
def test_a_wrong_field_is_told_with_its_row(
    read: Read, column: str, value: str, config: dict[str, Any], sentence: str
) -> None:
    good = harmless(config)
    with pytest.raises(BadInputError, match=sentence) as caught:
        read({"events.csv": csv(row(**good), row(**good | {column: value}))}, **config)
    told = str(caught.value)
    assert "events.csv, row 2: " in told and "\n" not in told
    # Without the wrong row the same config reads the table.
    assert len(read({"events.csv": csv(row(**good))}, **config)[0]) == 1


def test_the_first_wrong_row_stands_for_all(read: Read) -> None:
    rows = [GOOD, row(clicked="-1"), GOOD, row(clicked="7"), row(clicked="8")]
    with pytest.raises(BadInputError, match=r"row 2: column 'clicked' is '-1' \(and 2 more rows\), expected 0 or 1"):
        read({"events.csv": csv(*rows)})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"events.csv is empty"),
        (csv(), r"events\* holds no rows"),
        (csv(header="uid,artikel,shown_at,clicked"), r"no column 'article' \(did you mean 'artikel'\?\)"),
        (
            csv(header="user,artikel,shown_at"),
            r"events.csv has no columns 'uid', 'article' \(did you mean 'artikel'\?\), 'clicked': correct the file",
        ),
        (csv(header="  ").replace("\n", "\n" + csv(*ROWS), 1), r"the first line is blank and names no column; remove"),
        (csv("u1,7,8,2026-01-01,1", header="uid,article,article,shown_at,clicked"), r"has column 'article' twice"),
        (csv(*ROWS, "u1,7"), r"events.csv, row 4: 2 fields, expected 7"),
        (csv(*ROWS, ROWS[0] + ",more"), r"events.csv, row 4: 8 fields, expected 7"),
        (csv(*ROWS).encode().replace(b"u2", b"\xff\xfe"), r"not UTF-8"),
        (csv(*ROWS).replace("2026", "2025"), r"covers 2025-01-01 10:00 to 2025-01-02 23:59 UTC; move the window"),
    ],
)
def test_a_damaged_csv_is_told(read: Read, text: str | bytes, sentence: str) -> None:
    with pytest.raises(BadInputError, match=sentence) as caught:
        read({"events.csv": text})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [6, 12])
def test_a_truncated_gzip_file_is_told(read: Read, cut: int) -> None:
    with pytest.raises(BadInputError, match=r"events.csv.gz"):
        read({"events.csv.gz": gzip.compress(csv(*ROWS * 50).encode())[:-cut]})


def test_a_file_that_is_no_parquet_is_told(read: Read) -> None:
    with pytest.raises(BadInputError, match=r"events.parquet is no Parquet file"):
        read({"events.parquet": b"PAR1 not really"})


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("uid", [1.0, 2.0], r"'uid' is float64, which is no string"),
        ("article", [[1], [2]], r"'article' is list\(int64\), which is no int64"),
        ("shown_at", [1, 2], r"'shown_at' is int64, no time in text: say its unit"),
        ("clicked", [1, None], r"row 2: column 'clicked' is empty, expected 0 or 1"),
        ("clicked", [float("nan"), 1.0], r"row 1: column 'clicked' is nan, expected 0 or 1"),
    ],
)
def test_a_parquet_column_of_another_type_is_told(read: Read, column: str, values: list[Any], sentence: str) -> None:
    good = {"uid": ["a", "b"], "article": [1, 2], "shown_at": ["2026-01-01"] * 2, "clicked": [0, 1]}
    with pytest.raises(BadInputError, match=sentence):
        read({"events.parquet": pl.DataFrame(good | {column: values})})


def test_no_file_and_a_file_of_another_kind(read: Read) -> None:
    with pytest.raises(MissingError, match=r"no file matches .*nothing\*: put the events there"):
        read({}, files="nothing*")
    with pytest.raises(BadInputError, match=r"events.xlsx is neither CSV nor Parquet"):
        read({"events.xlsx": b""})
    with pytest.raises(BadInputError, match=r"nowhere://.*install its fsspec driver"):
        read({}, files="nowhere://shop/*.csv")


@pytest.mark.parametrize(
    ("table", "changes", "sentence"),
    [
        (
            csv("u1,30", "u1,31", header="uid,age"),
            {},
            r"users.csv, row 2: 'uid' 'u1' has a row already; keep one, or name",
        ),
        (
            csv("u1,30,2026-01-01", "u1,31,2026-01-01 00:00", header="uid,age,since"),
            {"valid_from": "since"},
            r"row 2: 'uid' 'u1' has a row already with this time; keep one$",
        ),
        (csv("u1,old", header="uid,age"), {}, r"users.csv, row 1: column 'age' is 'old', expected a whole number"),
        (csv(",30", header="uid,age"), {}, r"users.csv, row 1: column 'uid' is empty"),
        (csv("u1,30", header="uid,agee"), {}, r"users.csv has no column 'age' \(did you mean 'agee'\?\)"),
    ],
)
def test_a_wrong_table_of_users_is_told(read: Read, table: str, changes: dict[str, Any], sentence: str) -> None:
    users = {"files": "users.csv", "key": "uid", "columns": {"age": "int64"}} | changes
    with pytest.raises(BadInputError, match=sentence):
        read({"events.csv": csv(*ROWS), "users.csv": table}, users=users)


def test_repeated_rows_can_be_refused(read: Read) -> None:
    with pytest.raises(
        BadInputError, match=r"1 rows of .* repeat another one, first user u1, item 7 at 2026-01-01 10:00"
    ):
        read({"events.csv": csv(*ROWS, ROWS[0])}, duplicates="refuse")
    assert len(read({"events.csv": csv(*ROWS)}, duplicates="refuse")[0]) == 3


def test_rows_that_all_came_late(read: Read) -> None:
    rows = csv(*(f"{one},2026-01-09" for one in ROWS), header=f"{HEADER},stored")
    with pytest.raises(BadInputError, match=r"stored before 2026-01-03 01:00:00\+00:00, 3 came later: .* late_hours"):
        read({"events.csv": rows}, created="stored", late_hours=1)


BASE = {"files": "e.csv", "user": "u", "item": "i", "timestamp": "t", "feedback": {"click": "c"}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"late_hours": 3}, "late_hours compares when rows were stored: name that column in created"),
        ({"duplicates": "latest"}, "duplicates: latest compares"),
        ({"columns": {"click": "int64"}}, "'click' would be published twice"),
        ({"columns": {"user_id": "int64"}}, "'user_id' would be published twice"),
        ({"timestamp": {"column": "t", "zone": "Mars"}}, "must be a time zone such as Europe/Berlin"),
        ({"feedback": {}}, "at least 1"),
    ],
)
def test_a_config_that_contradicts_itself(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Config.model_validate(BASE | changes)
    Config.model_validate(BASE)
