"""Do vectors keep every number in its place, in the width that is promised, from texts and from lists alike?"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.fields import Column
from components.platform.errors import BadInputError
from tests.unit.components.ingest.table.conftest import Read, csv
from tests.unit.components.ingest.table.test_exact import given_as

ROWS = [[0.5, -1.0, 3.0], None, [0.0, 2.25, 1e3]]
FORMS = [
    pl.Series(["0.5|-1| 3", " ", "0|2.25|1e3"]),
    pl.Series(ROWS, dtype=pl.List(pl.Float64)),
    pl.Series(ROWS, dtype=pl.List(pl.Float32)),
    pl.Series(ROWS, dtype=pl.Array(pl.Float32, 3)),
]


@pytest.mark.parametrize("kind", ["array<float32>", "array<float64>"])
@pytest.mark.parametrize("form", FORMS, ids=["text", "doubles", "floats", "fixed size"])
def test_vectors_are_what_is_written_or_missing_as_a_whole(kind: Any, form: pl.Series) -> None:
    assert given_as(kind, form, length=3) == given_as(kind, form) == ROWS


def test_vectors_of_whole_numbers_and_numbers_nearest_to_a_float() -> None:
    assert given_as("array<float32>", pl.Series([[1, 2]])) == [[1.0, 2.0]]
    assert given_as("array<float32>", pl.Series(["0.1"])) == pl.Series([[0.1]], dtype=pl.List(pl.Float32)).to_list()
    assert given_as("array<float64>", pl.Series(["0.1"])) == [[0.1]]
    assert given_as("array<float32>", pl.Series([[], None], dtype=pl.List(pl.Null))) == [[], None]


@pytest.mark.parametrize(
    ("kind", "values", "length", "said"),
    [
        (
            "array<float32>",
            ["1|2", "1||3"],
            None,
            "row 2: column 'x' is '1||3', expected finite numbers that a float32",
        ),
        ("array<float64>", ["1|2", "1|x"], None, "'1|x', expected finite numbers that a float64 holds, separated by"),
        ("array<float64>", [[1.0], [None]], None, "row 2: column 'x' is [None], expected an array of finite numbers"),
        ("array<float64>", [[float("inf")]], None, "is [inf], expected an array of finite numbers"),
        ("array<float32>", [[16777217]], None, "is [16777217], expected an array of finite numbers that a float32"),
        ("array<float32>", [[1e300]], None, "is [1e+300], expected an array of finite numbers that a float32"),
        ("array<float64>", [[2**53 + 1]], None, "is [9007199254740993], expected an array of finite numbers that a"),
        ("array<float32>", ["1|2", "", "1|2|3"], 2, "row 3: column 'x' is '1|2|3', expected 2 values, as its length"),
        ("array<float64>", [[1.0] * 9], 8, "is [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, …] of 9, expected 8 values"),
        ("array<float64>", ["1|" * 200], 1, "1|1|'… of 400 characters, expected finite numbers"),
        ("array<string>", ["a|b", "", "a||b"], 2, None),
        ("array<int64>", ["1|2", "", "1"], 2, "row 3: column 'x' is '1', expected 2 values, as its length says"),
        ("array<string>", [["a", "b"], []], 2, "row 2: column 'x' is [], expected 2 values, as its length says"),
    ],
)
def test_what_is_no_vector_is_told(kind: Any, values: list[Any], length: int | None, said: str | None) -> None:
    if said is None:
        assert given_as(kind, pl.Series(values), length=length) == [["a", "b"], None, ["a", "b"]]
        return
    with pytest.raises(BadInputError) as caught:
        given_as(kind, pl.Series(values), length=length)
    assert said in str(caught.value)


def test_texts_in_lists_are_no_numbers() -> None:
    with pytest.raises(BadInputError, match=r"is list\(string\), which is no array<float32>"):
        given_as("array<float32>", pl.Series([["1"]]))
    with pytest.raises(ValidationError, match="length is that of an array, and type is int64"):
        Column(type="int64", length=3)


def test_vectors_are_published_in_their_width(read: Read) -> None:
    files = {
        "events.csv": csv("u1,7,2026-01-01,1", header="uid,article,shown_at,clicked"),
        "items.parquet": pl.DataFrame(
            {"article": [7], "image": pl.Series([[0.5, 1.5]], dtype=pl.Array(pl.Float32, 2))}
        ),
    }
    items = {"files": "items.parquet", "key": "article", "columns": {"image": {"type": "array<float32>", "length": 2}}}
    frame, _ = read(files, items=items)
    assert frame["image"].to_list() == [[0.5, 1.5]] and frame["image"].dtype == pl.List(pl.Float32)
