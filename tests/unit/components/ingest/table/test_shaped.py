"""Are texts, moments and funnels shaped as the config says, and absent files told with where to get them?"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.config import Config
from components.platform.errors import BadInputError, MissingError
from tests.unit.components.ingest.table.conftest import ROWS, Read, csv

BASE: dict[str, Any] = {"files": "x.csv", "user": "u", "item": "i", "timestamp": "t", "feedback": {"a": "a", "b": "b"}}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_texts_are_read_as_others_wherever_the_column_is(read: Read, kind: str) -> None:
    text = csv(ROWS[0], ROWS[1].replace("open", " none "), ROWS[2].replace("paid", "sent"))
    table = pl.read_csv(text.encode(), schema_overrides={"price": pl.String})
    frame, _ = read(
        {"events.csv": text} if kind == "csv" else {"events.parquet": table},
        values={"status": {"sent": "paid", " none": "NULL "}, "uid": {"u2": "u9"}},
        null_values=["NULL"],
        feedback={"sold": "uid == 'u9'", "click": "clicked"},
        user={"columns": ["uid", "status"]},
        columns={"status": "string"},
    )
    assert frame.select("user_id", "sold", "status").rows() == [
        ("u1-paid", 0, "paid"), ("u9-", 1, None), ("u9-paid", 1, "paid"),
    ]  # fmt: skip


def test_numbers_have_no_texts_to_change(read: Read) -> None:
    frame = pl.DataFrame({"uid": ["a"], "article": [7], "shown_at": ["2026-01-01"], "clicked": [1]})
    with pytest.raises(BadInputError, match="column 'article' is int64, and values changes texts alone"):
        read({"events.parquet": frame}, values={"article": {"7": "8"}})


def test_hour_and_weekday_are_those_of_the_zone(read: Read) -> None:
    columns: dict[str, Any] = {
        "hour": {"type": "int64", "moment": "hour", "zone": "Asia/Shanghai"},
        "weekday": {"type": "int64", "moment": "weekday", "zone": "Asia/Shanghai"},
        "utc": {"type": "int64", "moment": "weekday"},
    }
    # 1 January 2026 is a Thursday.
    frame, _ = read({"events.csv": csv(*ROWS, "u3,7,2026-01-01 16:00:00,1,4,,")}, columns=columns)
    assert frame.select("hour", "weekday", "utc").rows() == [(18, 4, 4), (19, 4, 4), (0, 5, 4), (7, 6, 5)]


@pytest.mark.parametrize(
    ("broken", "labels", "note"),
    [
        ("drop", [(1, 1, 0), (0, 0, 0)], "2 rows that break the funnel a -> b -> c dropped"),
        ("force", [(1, 1, 0), (1, 1, 1), (1, 1, 0), (0, 0, 0)], "2 rows that break the funnel a -> b -> c mended"),
        ("keep", [(1, 1, 0), (1, 0, 1), (0, 1, 0), (0, 0, 0)], "2 rows that break the funnel a -> b -> c kept"),
    ],
)
def test_rows_that_break_the_funnel(read: Read, broken: str, labels: list[tuple[int, ...]], note: str) -> None:
    rows = [f"u{n},7,2026-01-01,{abc}" for n, abc in enumerate(("1,1,0", "1,0,1", "0,1,0", "0,1,0", "0,0,0"))]
    rows[3] = rows[2]  # counted once, for what repeats is gone before
    given: dict[str, Any] = {
        "feedback": {"a": "a", "b": "b", "c": "c"},
        "funnel": {"labels": ["a", "b", "c"], "broken": broken},
    }
    files = {"events.csv": csv(*rows, header="uid,article,shown_at,a,b,c")}
    frame, notes = read(files, **given)
    assert frame.select("a", "b", "c").rows() == labels
    assert frame["a"].dtype == pl.Int8 and note in notes
    if broken == "drop":
        with pytest.raises(BadInputError, match="every impression breaks the funnel a -> b -> c: correct the order"):
            read({"events.csv": csv(rows[1], header="uid,article,shown_at,a,b,c")}, **given)


@pytest.mark.parametrize("name", ["log.csv", "data/log.csv.gz"])
def test_one_pattern_finds_a_file_in_any_folder_plain_or_compressed(read: Read, name: str) -> None:
    text = csv(*ROWS)
    frame, _ = read({name: gzip.compress(text.encode()) if name.endswith("gz") else text}, files="**/log.csv*")
    assert len(frame) == 3


def test_absent_files_of_a_page_say_where_to_get_them(read: Read, tmp_path: Path) -> None:
    page = {"page": "https://example.org/set", "into": "set"}
    with pytest.raises(MissingError) as caught:
        read({}, files="data://set/**/log.csv*", source=page)
    assert str(caught.value) == (
        f"no file matches {tmp_path}/data/set/**/log.csv*: download the data set from https://example.org/set and put "
        f"its files into {tmp_path}/data/set, or set RANKMILL_DATA"
    )
    files = {"data/set/log.csv": csv(*ROWS)}
    assert len(read(files, files="data://set/**/log.csv*", source=page)[0]) == 3
    with pytest.raises(MissingError, match=r"no file matches \S+users.csv: put the users there"):
        users = {"files": "users.csv", "key": "uid", "columns": {"age": "int64"}}
        read({}, files="data://set/**/log.csv*", source=page, users=users)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": {"stat": {"a": "b"}}}, "values changes texts of 'stat', which nothing reads"),
        ({"values": {"u": {" ": "b"}}}, "must be a text with a letter or sign"),
        ({"values": {"u": {"b": ""}}}, "must be a text with a letter or sign"),
        ({"columns": {"h": {"type": "string", "moment": "hour"}}}, "hour is a whole number: say type: int64"),
        ({"columns": {"h": {"type": "int64", "moment": "hour", "column": "t"}}}, "leave all but type and zone out"),
        ({"columns": {"h": {"type": "int64", "zone": "UTC"}}}, "zone is that of an hour or a weekday"),
        ({"columns": {"h": {"type": "int64", "moment": "hour", "zone": "Asia/Shangai"}}}, "did you mean 'Asia/Shangh"),
        ({"funnel": {"labels": ["a", "x"]}}, "funnel names labels of feedback, each once: correct 'x'"),
        ({"funnel": {"labels": ["a", "a"]}}, "funnel names labels of feedback, each once: correct 'a'"),
        ({"source": {"page": "https://x.org", "into": "set"}}, "source brings files into data://set/: name one"),
        ({"source": {"page": "x.org", "into": "set"}}, "page"),
        (
            {"users": {"files": "u.csv", "key": "u", "columns": {"h": {"type": "int64", "moment": "hour"}}}},
            "'h' is of an impression, not of a row here",
        ),
        (
            {"users": {"files": "u.csv", "key": "u", "columns": {"h": {"type": "int64", "outcome": True}}}},
            "'h' is of an impression, not of a row here",
        ),
    ],
)
def test_shapes_that_are_none_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(BASE | changes)
