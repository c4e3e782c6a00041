"""Is what ingestion gives exactly what is written, or the file refused with column and row?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.ingest.ingest_table.fields import Column, ColumnType
from components.ingest.ingest_table.reading.scan import Scan
from components.ingest.ingest_table.typed import refuse, typed
from components.platform.errors import BadInputError
from tests.unit.components.ingest.table.conftest import Read, csv

FEW = settings(max_examples=150, deadline=None)
FILE = "day.parquet"


def given_as(kind: ColumnType, values: pl.Series, **more: Any) -> list[Any]:
    """Return a column of a file in the type that a pipeline asks for."""
    frame = values.alias("x").to_frame()
    scan = Scan(FILE, frame.lazy(), frame.schema)
    column = typed("x", Column(type=kind, **more), scan)
    refuse(scan, [column], scan.rows)
    return frame.select(column.value).to_series().to_list()


def lawful(kind: ColumnType, values: pl.Series, expected: Sequence[Any]) -> None:
    """Check one column: `expected` holds what each field is, or `...` where the type cannot hold it."""
    lost = [row for row, one in enumerate(expected) if one is ...]
    if not lost:
        found = given_as(kind, values)
        assert found == list(expected) and [type(one) for one in found] == [type(one) for one in expected]
        return
    with pytest.raises(BadInputError) as caught:
        given_as(kind, values)
    told = str(caught.value)
    assert told.startswith(f"{FILE}, row {lost[0] + 1}: column 'x' is ") and "\n" not in told


def as_int64(written: Fraction) -> Any:
    return int(written) if written.denominator == 1 and -(2**63) <= written < 2**63 else ...


def as_float64(text: str) -> Any:
    written, number = Fraction(text), float(text)
    if not math.isfinite(number):
        return ...
    # A whole number is exact; one with a fraction is the nearest float, which is what float64 means.
    return number if written.denominator > 1 or Fraction(number) == written else ...


WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.integers(2**53 - 3, 2**53 + 3)
UNSIGNED = st.integers(0, 2**64 - 1) | st.integers(2**63 - 2, 2**63 + 2) | st.integers(2**53 - 3, 2**53 + 3)
NUMBERS = st.floats(width=64) | st.integers(-(2**54), 2**54).map(float)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=2)
TEXTS = st.one_of(
    st.integers(-(10**22), 10**22).map(str),
    st.integers(2**53 - 3, 2**53 + 3).map(lambda one: f"{one}.0"),
    DECIMALS.map(lambda one: f"{one:f}"),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda one: f"{one:.3f}"),
)


def series(values: Any, dtype: Any) -> Any:
    return st.lists(values | st.none(), min_size=1, max_size=6).map(lambda some: pl.Series("x", some, dtype=dtype))


@FEW
@given(series(WHOLE, pl.Int64) | series(UNSIGNED, pl.UInt64))
def test_whole_numbers(values: pl.Series) -> None:
    given = values.to_list()
    lawful("int64", values, [None if one is None else as_int64(Fraction(one)) for one in given])
    lawful("float64", values, [None if one is None else as_float64(str(one)) for one in given])
    lawful("string", values, [None if one is None else str(one) for one in given])
    lawful("bool", values, [{None: None, 0: False, 1: True}.get(one, ...) for one in given])


@FEW
@given(series(NUMBERS, pl.Float64), st.booleans())
@example(pl.Series("x", [34.6]), False)
@example(pl.Series("x", [-0.9]), False)
@example(pl.Series("x", [2.0**53]), False)
@example(pl.Series("x", [2.0**24]), True)
def test_floats(values: pl.Series, narrow: bool) -> None:
    values = values.cast(pl.Float32) if narrow else values
    exact = 2**24 if narrow else 2**53

    def whole(one: float | None) -> Any:
        if one is None:
            return None
        return as_int64(Fraction(one)) if math.isfinite(one) and abs(one) < exact else ...

    given = values.to_list()
    lawful("int64", values, [whole(one) for one in given])
    lawful("float64", values, [one if one is None or math.isfinite(one) else ... for one in given])
    lawful("bool", values, [None if one is None else {0: False, 1: True}.get(whole(one), ...) for one in given])


@FEW
@given(series(DECIMALS, pl.Decimal(38, 2)) | series(DECIMALS.map(lambda one: one // 1), pl.Decimal(38, 0)))
@example(pl.Series("x", [Decimal(2**63)], dtype=pl.Decimal(38, 0)))
def test_decimals(values: pl.Series) -> None:
    given = values.to_list()
    lawful("int64", values, [None if one is None else as_int64(Fraction(one)) for one in given])
    lawful("float64", values, [None if one is None else as_float64(str(one)) for one in given])
    lawful("bool", values, [None if one is None else {0: False, 1: True}.get(one, ...) for one in given])
    if values.dtype == pl.Decimal(38, 0):
        lawful("string", values, [None if one is None else str(int(one)) for one in given])


@FEW
@given(series(TEXTS, pl.String))
@example(pl.Series("x", ["9007199254740993.0"]))
@example(pl.Series("x", ["9007199254740993"]))
def test_numbers_in_texts(values: pl.Series) -> None:
    given = values.to_list()
    lawful("int64", values, [None if one is None else as_int64(Fraction(one)) for one in given])
    lawful("float64", values, [None if one is None else as_float64(one) for one in given])


@FEW
@given(st.floats(-1e17, 1e17).map(lambda one: f"{one:.14e}") | st.sampled_from(["1e3", "15E-1", "1.5e1", "2e18"]))
def test_numbers_with_exponents_are_what_they_say_or_refused(text: str) -> None:
    try:
        (found,) = given_as("int64", pl.Series("x", [text]))
    except BadInputError:
        written = Fraction(text)
        assert written.denominator > 1 or abs(written) >= 2**53
        return
    assert found == Fraction(text)


@FEW
@given(st.lists(st.lists(UNSIGNED, max_size=3), min_size=1, max_size=4))
def test_elements_of_arrays(rows: list[list[int]]) -> None:
    decimals = pl.Series("x", [[Decimal(one) for one in row] for row in rows], dtype=pl.List(pl.Decimal(38, 0)))
    for values in (pl.Series("x", rows, dtype=pl.List(pl.UInt64)), decimals):
        lawful("array<int64>", values, [... if any(one >= 2**63 for one in row) else row for row in rows])
        lawful("array<string>", values, [[str(one) for one in row] for row in rows])
    floats = pl.Series("x", [[float(one) for one in row] for row in rows], dtype=pl.List(pl.Float64))
    wanted = [... if any(float(one) >= 2**53 for one in row) else row for row in rows]
    lawful("array<int64>", floats, wanted)
    texts = pl.Series("x", ["|".join(f"{one}.0" for one in row) for row in rows])
    lawful("array<int64>", texts, [... if any(one >= 2**63 for one in row) else row for row in rows])


SENTENCES = [
    (
        "int64",
        pl.Series([1.0, 1.152921504606847e18]),
        "row 2: column 'x' is 1.152921504606847e+18, expected a whole number below 9,007,199,254,740,992, for a "
        "float64 rounds those beyond: write whole numbers or texts",
    ),
    ("int64", pl.Series([2**63], dtype=pl.UInt64), "is 9223372036854775808, expected a whole number of at most 64"),
    ("int64", pl.Series([Decimal("34.6")]), "is 34.6, expected a whole number;"),
    ("float64", pl.Series([2**53 + 1]), "is 9007199254740993, expected a number that a float64 holds exactly: publish"),
    ("bool", pl.Series([1, 30]), "row 2: column 'x' is 30, expected true or false"),
    (
        "array<int64>",
        pl.Series([[1], [2**63]], dtype=pl.List(pl.UInt64)),
        "row 2: column 'x' is [9223372036854775808], expected an array of whole numbers of at most 64 bits without",
    ),
    ("array<string>", pl.Series([["a", None]]), "is ['a', None], expected an array of texts without nulls"),
]


@pytest.mark.parametrize(("kind", "values", "sentence"), SENTENCES)
def test_what_would_be_lost_is_told(kind: ColumnType, values: pl.Series, sentence: str) -> None:
    with pytest.raises(BadInputError) as caught:
        given_as(kind, values)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", pl.Series([1.5])),
        ("string", pl.Series([Decimal("1.50")])),
        ("int64", pl.Series([[1]])),
        ("int64", pl.Series([{"a": 1}])),
        ("float64", pl.Series([b"1"])),
        ("bool", pl.Series([["true"]])),
        ("array<string>", pl.Series([[1.5]])),
        ("array<int64>", pl.Series([[[1]]])),
        ("array<int64>", pl.Series([1])),
    ],
)
def test_a_type_that_cannot_become_another_is_told(kind: ColumnType, values: pl.Series) -> None:
    with pytest.raises(BadInputError, match=rf"day.parquet: column 'x' is .*, which is no {kind}: change the type"):
        given_as(kind, values)


@pytest.mark.parametrize("kind", ["string", "int64", "float64", "bool", "array<string>", "array<int64>"])
def test_a_column_without_a_single_value_is_missing_in_any_type(kind: ColumnType) -> None:
    nothing = pl.Series("x", [None, None], dtype=pl.Null)
    assert given_as(kind, nothing) == [None, None]
    with pytest.raises(BadInputError, match=r"row 1: column 'x' is empty \(and 1 more rows\), expected"):
        given_as(kind, nothing, required=True)


@pytest.mark.parametrize("kind", ["array<string>", "array<int64>"])
def test_lists_that_are_all_empty_have_any_type(kind: ColumnType) -> None:
    empty = pl.Series("x", [[], None], dtype=pl.List(pl.Null))
    assert given_as(kind, empty) == [[], None]
    with pytest.raises(BadInputError, match=r"row 1: column 'x' is \[None\]"):
        given_as(kind, pl.Series("x", [[None]], dtype=pl.List(pl.Null)))


def test_other_forms_of_the_same_values() -> None:
    assert given_as("int64", pl.Series(["7", None], dtype=pl.Categorical)) == [7, None]
    assert given_as("array<string>", pl.Series([["a"]], dtype=pl.List(pl.Categorical))) == [["a"]]
    assert given_as("array<int64>", pl.Series([[1, 2]], dtype=pl.Array(pl.Int8, 2))) == [[1, 2]]
    assert given_as("bool", pl.Series(["t", "F", "True", "0.0", ""])) == [True, False, True, False, None]


DAY = {"uid": [1, 2], "article": [1, 2], "shown_at": ["2026-01-01 10:00"] * 2, "clicked": [1, 0]}


def test_a_day_on_which_nobody_sent_a_value_and_one_without_rows(read: Read) -> None:
    day = pl.DataFrame(DAY | {"device": pl.Series([None, None]), "tags": [[], []]})
    assert day.schema["device"] == pl.Null
    next_day = pl.DataFrame(DAY | {"device": ["phone", None], "tags": [["a"], []]})
    nothing = pl.DataFrame({name: pl.Series([], dtype=pl.Null) for name in day.columns})
    frame, _ = read(
        {"events1.parquet": day, "events2.parquet": next_day, "events3.parquet": nothing},
        columns={"device": "string", "tags": "array<string>"},
        duplicates="keep",
    )
    assert len(frame) == 4 and frame["device"].null_count() == 3 and frame["tags"].list.len().sum() == 1


def test_decimals_without_a_fraction_are_ids_labels_and_flags(read: Read) -> None:
    def whole(some: list[Any]) -> pl.Series:
        return pl.Series([Decimal(one) for one in some], dtype=pl.Decimal(38, 0))

    table = pl.DataFrame(DAY | {name: whole(DAY[name]) for name in ("uid", "article", "clicked")})
    frame, _ = read(
        {"events.parquet": table}, columns={"new": {"type": "bool", "column": "clicked"}}, feedback={"click": "clicked"}
    )
    assert frame.rows()[0][:2] == ("1", 1)
    assert frame["click"].to_list() == [1, 0] and frame["new"].to_list() == [True, False]
    too_far = table.with_columns(article=whole([1, 2**63]))
    with pytest.raises(BadInputError, match=r"row 2: column 'article' is 9223372036854775808, expected a whole number"):
        read({"events.parquet": too_far})


LARGE = 2**53 + 1


@pytest.mark.parametrize(
    "form", [str, lambda one: f"{one}.0", lambda one: f"{one}.00"], ids=["digits", "point", "two digits"]
)
def test_neighbours_beyond_two_to_the_53_stay_apart(read: Read, form: Callable[[int], str]) -> None:
    rows = [f"u1,{form(LARGE + n)},2026-01-01,{form(LARGE + n)}" for n in range(3)]
    rule = f"clicked == {LARGE}"
    frame, _ = read({"events.csv": csv(*rows, header="uid,article,shown_at,clicked")}, feedback={"click": rule})
    assert frame["item_id"].to_list() == [LARGE, LARGE + 1, LARGE + 2]
    assert frame["click"].to_list() == [1, 0, 0]
