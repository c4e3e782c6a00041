"""Are files of every make read, or refused in one sentence? Quotes, headers, partitions, columns that come later."""

from __future__ import annotations

import csv as csv_library
import gzip
import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.ingest_table.config import Config
from components.ingest.ingest_table.reading.csv_text import open_quote
from components.platform.errors import BadInputError
from tests.unit.components.ingest.table.conftest import HEADER, ROWS, Read, csv

NOTED = f"{HEADER},note"
MANY = [f"u{n},{n % 7},2026-01-02 10:{n:02d}:00,{n % 2},1,1,x" for n in range(60)]


def noted(*notes: str) -> str:
    """Return rows with a free text as their last column, which no pipeline reads."""
    return csv(*(f"{row},{note}" for row, note in zip(MANY, notes, strict=False)), header=NOTED)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (noted("a", '"5 disk', "b", "c"), "events.csv, row 2: a quote is opened and never closed"),
        (noted("a", "b", 'c "5', '"5 disk'), "events.csv, row 4: a quote is opened and never closed"),
        # Closed by the quote of a later row, which would swallow the rows between.
        (
            noted("a", '"5 disk', "b", '"c"', "d"),
            "events.csv, row 2: a quote is opened and not closed in its line; close it, or set multiline: true",
        ),
        (noted("a", '"two\nlines"', "b"), "row 2: a quote is opened and not closed in its line"),
        (csv(*ROWS, header=f'{HEADER},"no\nte').replace(",paid", ",paid,x"), "events.csv, header: a quote is opened"),
        ("\n\r\n" + noted("a", '"5 disk', "b"), "events.csv, row 2: a quote is opened and never closed"),
    ],
)
def test_a_quote_that_its_line_leaves_open_is_an_error(read: Read, text: str, sentence: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(sentence)):
        read({"events.csv": text})


def test_a_quote_may_be_left_open_across_blocks(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.ingest.ingest_table.reading.csv_text._BLOCK_BYTES", 50)
    with pytest.raises(BadInputError, match=r"row 9: a quote is opened and never closed"):
        read({"events.csv": noted(*"abcdefgh", '"5 disk', *"ijklmnopqrs")})


def test_texts_of_several_lines_are_read_when_the_pipeline_says_so(read: Read) -> None:
    text = csv(
        f'{MANY[0]},"two\nlines"', f"{MANY[1]},one", f'{MANY[2]},"a ""b""\n\n,c"', f'{MANY[3]},5" disk', header=NOTED
    )
    frame, _ = read({"events.csv": text}, multiline=True, columns={"note": "string"})
    assert frame["note"].to_list() == ["two\nlines", "one", 'a "b"\n\n,c', '5" disk']
    with pytest.raises(BadInputError, match=r"row 5: a quote is opened and never closed"):
        read({"events.csv": text + f'{MANY[4]},"open\n{MANY[5]},b\n'}, multiline=True)


@given(st.text(alphabet='a",\n', max_size=30))
def test_open_quotes_are_found_as_a_csv_reader_finds_them(body: str) -> None:
    text = f"h\n{body}"
    reader = csv_library.reader(io.StringIO(text, newline=""))
    row, lines, first = -1, 0, None
    for record in reader:
        row += bool(record)
        first = row if first is None and reader.line_num - lines > 1 else first
        lines = reader.line_num
    # Behind a text that ends within quotes a further line is no row of its own.
    *_, last = csv_library.reader(io.StringIO(f"{text.rstrip()}\nZ", newline=""))
    swallowed = last != ["Z"]
    first = row if first is None and swallowed else first
    found = open_quote(io.BytesIO(text.encode()), ",")
    assert (found.row if found else None) == first
    assert (open_quote(io.BytesIO(text.encode()), ",", multiline=True) is not None) == swallowed


def test_a_note_tells_of_words_that_often_mean_missing(read: Read) -> None:
    rows = [ROWS[0].replace("u1", "NULL"), ROWS[1].replace("open", "\\N"), ROWS[2]]
    files = {"events.csv": csv(*rows)}
    _, notes = read(files, columns={"status": "string"})
    assert notes[1:] == [
        "warning: 'user_id' of impressions is 'NULL' in 1 rows: if that means missing, set null_values: [\"NULL\"], "
        "otherwise null_values: []",
        "warning: 'status' of impressions is '\\\\N' in 1 rows: if that means missing, set null_values: [\"\\\\N\"], "
        "otherwise null_values: []",
    ]
    assert len(read(files, columns={"status": "string"}, null_values=[])[1]) == 1
    frame, _ = read(files, columns={"status": "string"}, null_values=["\\N"])
    assert frame["status"].to_list() == ["paid", None, "paid"]
    with pytest.raises(BadInputError, match=r"events.csv, row 1: column 'uid' is empty, expected a text"):
        read(files, null_values=["NULL"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_null_values_hold_for_numbers_and_for_both_kinds_of_file(read: Read, kind: str) -> None:
    rows = [row.split(",") for row in (*ROWS[:2], ROWS[2].replace(",5,,", ",5, NULL ,"))]
    table = pl.DataFrame(dict(zip(HEADER.split(","), map(list, zip(*rows, strict=True)), strict=True)))
    files: dict[str, Any] = {"events.parquet": table} if kind == "parquet" else {"events.csv": table.write_csv()}
    frame, _ = read(files, columns={"price": "float64"}, null_values=[" NULL\t"])
    assert frame["price"].to_list() == [9.5, 1.0, None]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_null_values_hold_for_elements_of_arrays(read: Read, kind: str) -> None:
    tags = ["a| NULL |b", "NULL", "NULLS|a"]
    table = pl.DataFrame(
        {"uid": ["u1"] * 3, "article": [1, 2, 3], "shown_at": ["2026-01-01"] * 3, "clicked": [1, 0, 1], "tags": tags}
    )
    if kind == "parquet":
        table = table.with_columns(pl.col("tags").str.split("|"))
    files: dict[str, Any] = {f"events.{kind}": table if kind == "parquet" else table.write_csv()}
    frame, notes = read(files, columns={"tags": "array<string>"})
    assert frame["tags"].to_list() == [["a", "NULL", "b"], ["NULL"], ["NULLS", "a"]]
    assert notes[1:] == [
        "warning: 'tags' of impressions holds 'NULL' in 2 rows: if that means missing, set null_values: [\"NULL\"], "
        "otherwise null_values: []"
    ]
    frame, notes = read(files, columns={"tags": "array<string>"}, null_values=["NULL"])
    assert frame["tags"].to_list() == [["a", "b"], [], ["NULLS", "a"]]
    assert len(notes) == 1


def test_null_values_hold_for_what_stands_in_the_path(read: Read) -> None:
    files = {f"events/land={land}/part.csv": csv(row) for land, row in zip(("NULL", "DE%20"), ROWS, strict=False)}
    frame, _ = read(files, files="events/**/*.csv", columns={"land": "string"}, null_values=["NULL"])
    assert frame["land"].to_list() == [None, "DE"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_texts_are_without_white_space_at_their_ends_as_numbers_are(read: Read, kind: str) -> None:
    table = pl.DataFrame(
        {"uid": ["u1 ", "u1"], "article": [" 7", "7 "], "shown_at": [" 2026-01-01", "2026-01-02 "],
         "clicked": ["1", " 0"], "status": [" paid", "paid\u00a0"]}
    )  # fmt: skip
    files: dict[str, Any] = {"events.parquet": table} if kind == "parquet" else {"events.csv": table.write_csv()}
    frame, _ = read(files, feedback={"buy": "status == 'paid'"}, columns={"status": "string"})
    assert frame["user_id"].to_list() == ["u1", "u1"] and frame["item_id"].to_list() == [7, 7]
    assert frame["status"].to_list() == ["paid", "paid"] and frame["buy"].to_list() == [1, 1]


def test_a_damaged_page_of_a_parquet_file_is_told_with_the_file(read: Read, tmp_path: Path) -> None:
    day = pl.DataFrame({"uid": [f"user{n}" for n in range(2000)], "article": range(2000), "clicked": [0, 1] * 1000})
    files = {"events1.parquet": day.with_columns(shown_at=pl.lit("2026-01-01 10:00"))}
    table = day.with_columns(shown_at=pl.lit("2026-01-02 10:00")).to_arrow()
    pq.write_table(table, tmp_path / "day2.parquet", compression="none", use_dictionary=False)
    damaged = bytearray((tmp_path / "day2.parquet").read_bytes())
    damaged[2000:2004] = b"\xff" * 4
    for users in (None, {"files": "day2.parquet", "key": "uid", "columns": {"article": "int64"}}):
        name = "events2.parquet" if users is None else "day2.parquet"
        with pytest.raises(BadInputError, match=rf"{name} is damaged \(.*\); write it again"):
            read(files | {name: bytes(damaged)}, users=users, columns={} if users is None else None)
        (tmp_path / "events2.parquet").unlink(missing_ok=True)


def test_a_column_that_a_parquet_file_holds_twice_is_told(read: Read, tmp_path: Path) -> None:
    one = pa.array(["a"])
    table = pa.Table.from_arrays([one, one, one], names=["uid", "note", "note"])
    pq.write_table(table, tmp_path / "events.parquet")
    with pytest.raises(BadInputError, match=r"events.parquet has column 'note' twice: remove one"):
        read({})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["*", "^p.*$", "^.*$", "a b", "__row"])
def test_a_column_may_have_any_name(read: Read, name: str, kind: str) -> None:
    table = pl.DataFrame(
        {"uid": ["u1"], "article": ["7"], "shown_at": ["2026-01-01"], "clicked": ["1"], "p1": ["x"], "p2": ["y"]}
    ).with_columns(pl.lit("2.5").alias(name))
    files: dict[str, Any] = {"events.parquet": table} if kind == "parquet" else {"events.csv": table.write_csv()}
    frame, _ = read(files, columns={"value": {"type": "float64", "column": name}})
    assert frame["value"].to_list() == [2.5]
    with pytest.raises(BadInputError, match=rf"row 1: column {re.escape(repr(name))} is '2.5', expected a whole"):
        read(files, columns={"value": {"type": "int64", "column": name}})


def test_empty_lines_and_line_breaks_in_the_header(read: Read) -> None:
    expected, _ = read({"events.csv": csv(*ROWS)})
    assert read({"events.csv": "\n\r\n" + csv(*ROWS)})[0].equals(expected)
    text = csv(*ROWS).replace("status", '"sta\ntus"')
    frame, _ = read({"events.csv": text}, multiline=True, columns={"state": {"type": "string", "column": "sta\ntus"}})
    assert frame["state"].to_list() == ["paid", "open", "paid"]


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-16", "is UTF-16; write"), ("utf-32", "is UTF-32; write"), ("utf-16-le", "holds a zero byte")],
)
def test_another_encoding_is_told(read: Read, encoding: str, said: str) -> None:
    with pytest.raises(BadInputError, match=rf"events.csv {said}.* as UTF-8"):
        read({"events.csv": csv(*ROWS).encode(encoding)})


def test_a_file_without_a_header_is_read_by_names(read: Read) -> None:
    body = csv(*ROWS).split("\n", 1)[1]
    frame, _ = read({"events.csv": body}, names=HEADER.split(","))
    assert frame.equals(read({"events.csv": csv(*ROWS)}, names=None)[0])
    with pytest.raises(BadInputError, match=r"events.csv, row 1: 7 fields, expected 6"):
        read({"events.csv": body}, names=HEADER.split(",")[:-1])
    with pytest.raises(BadInputError, match=r"events.csv, row 1: column 'uid' is empty"):
        read({"events.csv": body.replace("u1", "", 1)}, names=HEADER.split(","))
    with pytest.raises(ValueError, match="names holds 'uid' twice"):
        read({"events.csv": body}, names=["uid", "uid"])


def test_a_column_may_be_absent_from_some_files_but_not_from_all(read: Read) -> None:
    old = csv("u9,7,2026-01-01 09:00:00,1", header="uid,article,shown_at,clicked")
    columns = {"price": {"type": "float64", "optional": True}}
    frame, notes = read({"events1.csv": old, "events2.csv": csv(*ROWS)}, columns=columns)
    assert frame["price"].to_list() == [None, 9.5, 1.0, None]
    assert notes[1:] == ["1 of 2 files lack 'price'"]
    with pytest.raises(BadInputError, match=r"events1.csv has no column 'price'"):
        read({}, columns={"price": "float64"})
    with pytest.raises(BadInputError, match=r"no file of .*events\* has the optional column 'prise'"):
        read({}, columns={"prise": {"type": "float64", "optional": True}})
    with pytest.raises(ValueError, match="leave required out"):
        read({}, columns={"price": {"type": "float64", "optional": True, "required": True}})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_may_stand_in_the_path(read: Read, kind: str) -> None:
    part = pl.DataFrame({"uid": ["u1", "u2"], "article": [1, 2], "clicked": [1, 0]})
    files: dict[str, Any] = {
        f"logs/dt=2026-01-0{day}/land={land}/part-0.{kind}": part if kind == "parquet" else part.write_csv()
        for day in (1, 2)
        for land in ("D%2FE", "__HIVE_DEFAULT_PARTITION__")
    }
    pattern = f"logs/**/*.{kind}"
    frame, _ = read(files, files=pattern, timestamp="dt", columns={"land": "string"}, duplicates="keep")
    assert frame["event_timestamp"].to_list() == [datetime(2026, 1, d, tzinfo=UTC) for d in (1, 1, 1, 1, 2, 2, 2, 2)]
    assert sorted(frame["land"].fill_null("")) == ["", "", "", "", *["D/E"] * 4]
    # What the file itself says of a column counts.
    within = {f"logs/clicked=7/dt=2026-01-01/part-0.{kind}": files.popitem()[1]}
    assert read(within, files=f"logs/clicked=7/**/*.{kind}", timestamp="dt")[0]["click"].to_list() == [1, 0]
    with pytest.raises(BadInputError, match=r"has no column 'country' \(known: article, clicked, dt, land, uid\)"):
        read({}, files=f"logs/dt=*/**/*.{kind}", timestamp="dt", domain="country")


@pytest.mark.parametrize("delimiter", ["§", '"', "\n"])
def test_a_delimiter_is_one_plain_sign(delimiter: str) -> None:
    with pytest.raises(ValueError, match="must be one ASCII character"):
        Config.model_validate(
            {"files": "e", "user": "u", "item": "i", "timestamp": "t", "feedback": {"c": "c"}, "delimiter": delimiter}
        )


def test_a_plain_file_and_its_compressed_one_are_not_read_both(read: Read) -> None:
    text = csv(*ROWS)
    both = {"events/a.csv": text, "events/a.csv.gz": gzip.compress(text.encode())}
    with pytest.raises(
        BadInputError, match=r"events/a\.csv and .*events/a\.csv\.gz are one table, plain and compressed"
    ):
        read(both, files="events/*")


def test_a_text_without_quotes_is_told(read: Read) -> None:
    said = r"has no column 'paid'.*; paid is read as a column: write 'paid' in quotes for the text$"
    with pytest.raises(BadInputError, match=said):
        read({"events.csv": csv(*ROWS)}, feedback={"order": "status == paid"})
