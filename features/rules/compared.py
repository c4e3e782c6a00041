"""Does a row meet a comparison? Whole numbers are compared as whole numbers, of any size."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from features.rules.exact_values import exact_below, not_exact, stripped, text_value, whole_text
from features.rules.parse import Condition

COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A comparison of a column."""

    met: pl.Expr | None
    """Whether a row meets it; None when the file's type cannot be compared so."""
    wrong: pl.Expr
    """Whether a field cannot be compared; never null."""
    wanted: str
    why: tuple[tuple[pl.Expr, str], ...] = ()
    """For fields of a kind, a closer word on what they should be."""


def compared(condition: Condition, column: pl.Expr, dtype: pl.DataType) -> Compared:
    """Return the expressions of a comparison; an empty field cannot be compared."""
    if condition.op == "is":
        known = compared(replace(condition, op="in", value=(0, 1)), column, dtype)
        if known.met is None:
            return replace(known, wanted="0 or 1")
        met = compared(replace(condition, op="=="), column, dtype).met
        return Compared(met, known.wrong | ~known.met.fill_null(False), "0 or 1")
    if isinstance(condition.values[0], str):
        said = text_value(column, dtype)
        wrong = pl.lit(False) if said.value is None else said.wrong | said.value.is_null()
        return Compared(_of_texts(condition, said.value), wrong, "a text")
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Decimal):
        column, dtype = column.cast(pl.String), pl.String()
    wanted = "a finite number"
    if dtype == pl.Null:
        return Compared(column.cast(pl.Boolean), column.is_null(), wanted)
    if dtype.is_integer() or dtype == pl.Boolean:
        return Compared(_of_wholes(condition, column.cast(pl.Int128)), column.is_null(), wanted)
    if dtype.is_float():
        fine = column.is_finite().fill_null(False)
        # A whole number that was rounded before may be any of its neighbours.
        far = (column.abs() >= exact_below(dtype)).fill_null(False) & fine
        equal = condition.op in ("==", "!=", "in", "not in")
        met = _of_floats(condition, column, dtype)
        return Compared(met, ~fine | far if equal else ~fine, wanted, ((far, not_exact(dtype)),))
    if dtype != pl.String:
        return Compared(None, pl.lit(False), wanted)
    text = stripped(column)
    number = text.cast(pl.Float64, strict=False)
    whole = whole_text(text).cast(pl.Int128, strict=False)
    floats = _of_floats(condition, number, pl.Float64())
    met = pl.when(whole.is_not_null()).then(_of_wholes(condition, whole)).otherwise(floats)
    return Compared(met, ~number.is_finite().fill_null(False), wanted)


def _of_texts(condition: Condition, text: pl.Expr | None) -> pl.Expr | None:
    if text is None:
        return None
    same = text.is_in(list(condition.values))
    return ~same if condition.op in ("!=", "not in") else same


def _of_wholes(condition: Condition, whole: pl.Expr) -> pl.Expr:
    values = [one for one in condition.values if not isinstance(one, str)]
    if condition.op in ("==", "!=", "in", "not in"):
        # A number with a fraction is equal to no whole number.
        same = pl.any_horizontal(*(whole == _int(int(one)) for one in values if one == int(one)), pl.lit(False))
        return ~same if condition.op in ("!=", "not in") else same
    # Above 4.5 is above 4, and at least 4.5 is at least 5.
    bound = math.floor(values[0]) if condition.op in (">", "<=") else math.ceil(values[0])
    return COMPARE[condition.op](whole, _int(bound))


def _int(number: int) -> pl.Expr:
    return pl.lit(number, dtype=pl.Int128)


def _of_floats(condition: Condition, number: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Compare in the column's own precision, in which 0.1 is 0.1."""
    values = [pl.lit(float(one), dtype=dtype) for one in condition.values]
    if condition.op in ("in", "not in"):
        same = pl.any_horizontal(*(number == one for one in values))
        return ~same if condition.op == "not in" else same
    return COMPARE[condition.op](number, values[0])
