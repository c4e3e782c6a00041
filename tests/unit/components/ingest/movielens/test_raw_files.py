"""Is every fault of a raw file one sentence with file, line and column?"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.ingest_movielens.raw_files import RATINGS, read
from components.platform.errors import BadInputError, MissingError

HEADER = "\t".join(RATINGS)
GOOD = "1\t2\t3\t880000000"


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "x.inter"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEADER.replace("rating:float", "stars:float"),
            "x.inter:1: column 3 is 'stars:float', expected 'rating:float'",
        ),
        (HEADER.replace("rating:float", "rating:token"), "column 3 is 'rating:token', expected 'rating:float'"),
        (HEADER.replace("\ttimestamp:float", ""), "column 4 is missing, expected 'timestamp:float'"),
        (HEADER + "\tip:token", "column 5 is 'ip:token', expected no more columns"),
        (HEADER.replace("\t", ","), "x.inter:1: column 1 is"),
    ],
)
def test_header_must_be_the_published_one(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read(write(tmp_path, f"{text}\n{GOOD}\n"), RATINGS)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{GOOD}\n1\t2\t3\t8800", "x.inter:3: the last line '1 2 3 8800' is cut off"),
        (f"{GOOD}\n1\t2\n", "x.inter:3: the last line '1 2' is cut off (2 of 4 fields"),
        (f"{GOOD}\n1\t2\n{GOOD}\n", "x.inter:3: 2 fields, expected 4"),
        (f"{GOOD}\n\n{GOOD}\n", "x.inter:3: 1 fields, expected 4"),
        ("", "holds no rows"),
    ],
)
def test_cut_lines_are_refused(tmp_path: Path, body: str, expected: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read(write(tmp_path, f"{HEADER}\n{body}"), RATINGS)
    assert expected in str(caught.value)


@given(cut=st.integers(1, 200))
def test_any_cut_inside_a_line_is_seen(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    text = f"{HEADER}\n" + f"{GOOD}\n" * 8
    short = text[: -min(cut, len(text))]
    path = write(tmp_path_factory.mktemp("cut"), short)
    rows = len(short.split("\n")) - 2
    if short.endswith("\n") and rows > 0:  # cut between lines: only a digest can tell
        assert len(read(path, RATINGS).text) == rows
    else:
        with pytest.raises(BadInputError):
            read(path, RATINGS)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"none\.inter is missing"):
        read(tmp_path / "none.inter", RATINGS)
    with pytest.raises(BadInputError, match="byte 0 is not UTF-8"):
        read(write(tmp_path, b"\xff\xfe\x00"), RATINGS)


@pytest.mark.parametrize("value", ["good", "3.5", "", "nan", "inf", "400", "-129", "3,0"])
def test_a_rating_that_is_no_small_whole_number(tmp_path: Path, value: str) -> None:
    table = read(write(tmp_path, f"{HEADER}\n{GOOD}\n1\t2\t{value}\t880000000\n"), RATINGS)
    with pytest.raises(BadInputError) as caught:
        table.integers("rating", pl.Int8)
    assert f"x.inter:3: column 'rating' is {value!r}, expected a whole number (int8)" in str(caught.value)


def test_whole_numbers_keep_every_digit(tmp_path: Path) -> None:
    big = 2**62 + 1
    table = read(write(tmp_path, f"{HEADER}\r\n{big}\t7.0\t5.0\t880000000\r\n"), RATINGS)
    assert table.integers("user_id", pl.Int64).to_list() == [big]
    assert table.integers("item_id", pl.Int64).to_list() == [7]
    assert table.integers("rating", pl.Int8).dtype == pl.Int8


@pytest.mark.parametrize("value", ["880000000000", "-1"])
def test_times_must_be_seconds(tmp_path: Path, value: str) -> None:
    table = read(write(tmp_path, f"{HEADER}\n1\t2\t3\t{value}\n"), RATINGS)
    with pytest.raises(BadInputError, match="expected a time in unix seconds"):
        table.seconds("timestamp")
