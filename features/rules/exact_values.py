"""Which value does a field hold exactly? A text without blanks, a whole number of any size, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

_FINE = pl.lit(False)
_WHOLE_TEXT = r"^([+-]?[0-9]+)(?:\.0*)?$"
"""A whole number, perhaps with a point and zeros behind it."""


@dataclass(frozen=True)
class Value:
    """What a column becomes."""

    value: pl.Expr | None
    """Its value, null where it is missing; None when the file's type cannot become the type at all."""
    wrong: pl.Expr = _FINE
    """Whether a field is not what is wanted; never null."""
    wanted: str = ""
    why: tuple[tuple[pl.Expr, str], ...] = ()
    """For fields of a kind, a closer word on what they should be."""


def exact_below(dtype: pl.DataType) -> int:
    """Return up to which size a float type holds every whole number, so that none is another one rounded."""
    if isinstance(dtype, pl.Float32):
        return 1 << 24
    return 1 << 11 if isinstance(dtype, pl.Float16) else 1 << 53


def whole_text(text: pl.Expr) -> pl.Expr:
    """Return the digits of texts that are whole numbers, 12 and 12.0, else null."""
    return text.str.extract(_WHOLE_TEXT, 1)


def stripped(column: pl.Expr) -> pl.Expr:
    """Return a text without blanks around it, null where it is empty."""
    return _filled(column.str.strip_chars())


def once(column: pl.Expr, made: Callable[[pl.Expr], pl.Expr], dtype: pl.DataType) -> pl.Expr:
    """Return what is made of a column that is evaluated once, however often `made` names it.

    The engine finds no common parts in expressions with a condition, and evaluates each of them anew.
    """

    def of(values: pl.Series) -> pl.Series:
        return values.alias("x").to_frame().select(made(pl.col("x")).alias("x")).to_series()

    return column.map_batches(of, return_dtype=dtype, is_elementwise=True)


def not_exact(dtype: pl.DataType) -> str:
    """Return what to say of a float that may be another whole number rounded."""
    return (
        f"a whole number below {exact_below(dtype):,}, for a {str(dtype).lower()} rounds those beyond: "
        "write whole numbers or texts"
    )


def text_value(column: pl.Expr, dtype: pl.DataType) -> Value:
    """Return texts as they are, and whole numbers, days and truths as they are written; no value of other types."""
    whole = dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0)
    if not (whole or isinstance(dtype, pl.String | pl.Boolean | pl.Date | pl.Null | pl.Categorical | pl.Enum)):
        return Value(None)
    if dtype == pl.Date:
        # A day beyond the calendar of the engine stops it.
        years = column.to_physical().is_between(-719_162, 2_932_896)
        return Value(pl.when(years).then(column).cast(pl.String), (~years).fill_null(False), "a text")
    return Value(_filled(column.cast(pl.String)), wanted="a text")


def _filled(text: pl.Expr) -> pl.Expr:
    """Return a text, null where it is empty."""
    return pl.when(text != "").then(text)
