"""Does a row meet a comparison of two columns? Of one kind, and exactly, whatever types the file has for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from features.rules.compared import COMPARE
from features.rules.exact_values import exact_below, not_exact, stripped, whole_text
from features.rules.iso_times import beyond, iso_moments
from features.rules.parse import LARGEST, Operator

_NUMBER = f"a finite number of at most {LARGEST:g}"
_NONE = pl.lit(0.0)
_NANOSECONDS = {"ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True)
class Side:
    """Where the values of a column lie in the order of their kind."""

    whole: pl.Expr
    """The whole number towards zero, or the text."""
    part: pl.Expr
    """What lies between it and the value."""
    wrong: pl.Expr
    """Whether a field cannot be compared; never null."""
    wanted: str
    why: tuple[tuple[pl.Expr, str], ...] = ()


def pair(op: Operator, columns: Sequence[pl.Expr], types: Sequence[pl.DataType]) -> tuple[pl.Expr, list[Side]] | None:
    """Return whether a row meets a comparison, and the check of either column; None where they differ in kind.

    Texts are equal or not as texts; in an order they are numbers, or times in UTC where they carry no zone. A missing
    value equals none, not even another missing one; otherwise it cannot be compared.

    Args:
        op: a comparison of two values.
        columns: the two.
        types: theirs in the file.
    """
    # A column of nothing but nulls is of any kind.
    kinds = {_kind(dtype) for dtype in types} - {"null"} or {"text"}
    if len(kinds) > 1 or "" in kinds:
        return None
    both = list(zip(columns, types, strict=True))
    if kinds <= {"text"} and op not in ("==", "!="):
        left, right = _in_order([column.cast(pl.String) for column in columns])
    elif kinds == {"number"}:
        left, right = (_number(column, dtype, equal=op in ("==", "!=")) for column, dtype in both)
    else:
        left, right = (_text(column) if kinds == {"text"} else _time(column, dtype) for column, dtype in both)
    same = left.whole == right.whole
    if op == "==":
        gaps = [_text(column).wrong if kinds <= {"text"} else column.is_null() for column in columns]
        sides = [replace(side, wrong=side.wrong & ~gap) for side, gap in zip((left, right), gaps, strict=True)]
        return (same & (left.part == right.part)).fill_null(False), sides
    if op == "!=":
        met = ~(same & (left.part == right.part))
    else:
        met = pl.when(same).then(COMPARE[op](left.part, right.part)).otherwise(COMPARE[op](left.whole, right.whole))
    return met, [left, right]


def _kind(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "text"
    if isinstance(dtype, pl.Datetime):
        return "time" if dtype.time_zone is None else "time in a zone"
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "number"
    return {pl.Null: "null", pl.Date: "date"}.get(type(dtype), "")


def _text(column: pl.Expr) -> Side:
    text = stripped(column.cast(pl.String))
    return Side(text, _NONE, text.is_null(), "a text")


def _time(column: pl.Expr, dtype: pl.DataType) -> Side:
    units = _NANOSECONDS[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1
    return Side(column.to_physical().cast(pl.Int128) * units, _NONE, column.is_null(), "a time")


def _number(column: pl.Expr, dtype: pl.DataType, *, equal: bool) -> Side:
    if dtype.is_integer() or dtype in (pl.Boolean, pl.Null):
        return Side(column.cast(pl.Int128), _NONE, column.is_null(), _NUMBER)
    if dtype.is_float():
        # A whole number that was rounded before may be any of its neighbours.
        far = (column.abs() >= exact_below(dtype)).fill_null(False) & column.is_finite().fill_null(False)
        side = _split(column.cast(pl.Float64), pl.lit(None, pl.Int128))
        return Side(side.whole, side.part, side.wrong | far, _NUMBER, ((far, not_exact(dtype)),)) if equal else side
    text = stripped(column.cast(pl.String))
    return _split(text.cast(pl.Float64, strict=False), whole_text(text).cast(pl.Int128, strict=False))


def _split(number: pl.Expr, exact: pl.Expr) -> Side:
    """Return numbers, of which those that are whole may be known exactly."""
    fine = (number.is_finite() & (number.abs() <= LARGEST)).fill_null(False)
    some = pl.when(fine).then(number)
    whole = some.cast(pl.Int128, strict=False)
    part = pl.when(exact.is_null()).then(some - whole.cast(pl.Float64)).otherwise(_NONE)
    return Side(pl.coalesce(exact, whole), part, ~fine, _NUMBER)


def _in_order(texts: Sequence[pl.Expr]) -> list[Side]:
    """Return texts as numbers where both of a row are, else as times."""
    numbers = [_number(text, pl.String(), equal=False) for text in texts]
    times = [iso_moments(text, "UTC").value for text in texts]
    none = [beyond(time) for time in times]
    both = ~numbers[0].wrong & ~numbers[1].wrong
    wrong = [number.wrong & gone for number, gone in zip(numbers, none, strict=True)]
    mixed = ~wrong[0] & ~wrong[1] & ~both & (none[0] | none[1])
    sides = []
    for number, time, gone, bad in zip(numbers, times, none, (wrong[0], wrong[1] | mixed), strict=True):
        micros = pl.when(~gone).then(time).to_physical().cast(pl.Int128)
        whole = pl.when(both).then(number.whole).otherwise(micros)
        part = pl.when(both).then(number.part).otherwise(_NONE)
        why = ((mixed, "a number or a time, as the column that it is compared with"),)
        sides.append(Side(whole, part, bad, f"{_NUMBER}, or a time such as 2026-01-31T23:59:00", why))
    return sides
