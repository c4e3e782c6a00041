"""Which value does a field hold in the type that is asked for? The one that is written, exactly, or none."""

from __future__ import annotations

from collections.abc import Callable, Collection

import polars as pl

from components.ingest.ingest_table.fields import Column
from features.rules.exact_values import Value, exact_below, not_exact, once, stripped, text_value, whole_text

DTYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "array<string>": pl.List(pl.String()),
    "array<int64>": pl.List(pl.Int64()),
    "array<float32>": pl.List(pl.Float32()),
    "array<float64>": pl.List(pl.Float64()),
}
"""Type of polars by the type that the config asks for."""
_EXPONENT_TEXT = r"^[+-]?[0-9.]{1,16}[eE][+-]?[0-9]{1,3}$"
"""A number with an exponent of so few digits that no float between two whole numbers is taken for one of them."""
_SHORT = 15
"""Digits of a whole number that every float64 holds."""


def value_of(column: pl.Expr, dtype: pl.DataType, asked: Column, nulls: Collection[str] = ()) -> Value:
    """Return the expressions of a column in the type that the config asks for.

    Args:
        column: the file's column.
        dtype: its type there.
        asked: what the config says of it.
        nulls: elements of a text that mean missing.
    """
    if dtype == pl.Null:
        # A day on which nobody sent a value: Parquet writers know no type for it.
        return Value(column.cast(DTYPES[asked.type]), wanted=_WANTED[asked.type])
    if isinstance(dtype, pl.Categorical | pl.Enum):
        column, dtype = column.cast(pl.String), pl.String()
    if isinstance(wanted := DTYPES[asked.type], pl.List):
        inner = wanted.inner if isinstance(wanted.inner, pl.DataType) else wanted.inner()
        if dtype == pl.String and (inner.is_float() or asked.length is not None):
            # A text without a value is no vector without values.
            column = stripped(column)
        found = _array(column, dtype, asked, inner, nulls)
        return found if asked.length is None or found.value is None else _of_length(found, found.value, asked.length)
    return _SCALARS[asked.type](column, dtype)


def _whole(column: pl.Expr, dtype: pl.DataType) -> Value:
    wanted = _WANTED["int64"]
    if dtype.is_integer() or dtype == pl.Boolean:
        value = column.cast(pl.Int64, strict=False)
        far = value.is_null() & column.is_not_null()
        return Value(value, far, wanted, ((far, _BITS),))
    if dtype.is_float():
        whole = column.is_finite() & (column == column.floor())
        near = column.abs() < exact_below(dtype)
        fine = (whole & near).fill_null(True)
        far = (whole & ~near).fill_null(False)
        return Value(pl.when(fine).then(column).cast(pl.Int64, strict=False), ~fine, wanted, ((far, not_exact(dtype)),))
    if isinstance(dtype, pl.Decimal):
        return _whole(column.cast(pl.String), pl.String())
    if dtype != pl.String:
        return Value(None)
    value = once(column, lambda given: once(stripped(given), _whole_of, pl.Int64()), pl.Int64())
    wrong = once(column, lambda given: _no_whole(stripped(given)), pl.Boolean())
    return Value(value, wrong, wanted, ((once(column, lambda given: _too_far(stripped(given)), pl.Boolean()), _BITS),))


def _whole_of(text: pl.Expr) -> pl.Expr:
    """Return texts as whole numbers, null where they are none or too large."""
    plain = text.cast(pl.Int64, strict=False)
    # Patterns are slow, and most texts are digits alone.
    return pl.coalesce(plain, once(pl.when(plain.is_null()).then(text), _whole_of_pattern, pl.Int64()))


def _whole_of_pattern(text: pl.Expr) -> pl.Expr:
    number = pl.when(text.str.contains(_EXPONENT_TEXT)).then(text).cast(pl.Float64, strict=False)
    floated = once(
        number, lambda one: pl.when((one == one.floor()) & (one.abs() < 1 << 53)).then(one), pl.Float64()
    ).cast(pl.Int64, strict=False)
    return pl.coalesce(whole_text(text).cast(pl.Int64, strict=False), floated)


def _no_whole(text: pl.Expr) -> pl.Expr:
    return once(text, lambda one: one.is_not_null() & _whole_of(one).is_null(), pl.Boolean())


def _too_far(text: pl.Expr) -> pl.Expr:
    """Return which texts are whole numbers of more than 64 bits."""
    digits = whole_text(text)
    return digits.is_not_null() & digits.cast(pl.Int64, strict=False).is_null()


def _number(column: pl.Expr, dtype: pl.DataType) -> Value:
    wanted = _WANTED["float64"]
    if dtype.is_float() or dtype == pl.Boolean:
        value = column.cast(pl.Float64)
        return Value(value, ~value.is_finite().fill_null(True), wanted)
    if dtype.is_integer():
        value = column.cast(pl.Float64)
        rounded = (value.cast(pl.Int128, strict=False) != column.cast(pl.Int128, strict=False)).fill_null(False)
        return Value(value, rounded, wanted, ((rounded, _ROUNDED),))
    if isinstance(dtype, pl.Decimal):
        return _number(column.cast(pl.String), pl.String())
    if dtype != pl.String:
        return Value(None)
    text = stripped(column)
    value = text.cast(pl.Float64, strict=False)
    long = pl.when(text.str.len_bytes() > _SHORT).then(text)
    rounded = (whole_text(long).cast(pl.Int128, strict=False) != value.cast(pl.Int128, strict=False)).fill_null(False)
    wrong = text.is_not_null() & ~value.is_finite().fill_null(False)
    return Value(value, wrong | rounded, wanted, ((rounded, _ROUNDED),))


def _truth(column: pl.Expr, dtype: pl.DataType) -> Value:
    wanted = _WANTED["bool"]
    if dtype == pl.Boolean:
        return Value(column, wanted=wanted)
    if dtype.is_numeric():
        number = _whole(column, dtype)
        if number.value is None:
            return Value(None)
        value = number.value.replace_strict([0, 1], [False, True], default=None, return_dtype=pl.Boolean)
        return Value(value, column.is_not_null() & value.is_null(), wanted)
    if dtype != pl.String:
        return Value(None)
    text = stripped(column.str.to_lowercase())
    words = {"true": True, "t": True, "1": True, "1.0": True, "false": False, "f": False, "0": False, "0.0": False}
    value = text.replace_strict(list(words), list(words.values()), default=None, return_dtype=pl.Boolean)
    return Value(value, text.is_not_null() & value.is_null(), wanted)


def _array(column: pl.Expr, dtype: pl.DataType, asked: Column, inner: pl.DataType, nulls: Collection[str]) -> Value:
    """Return an array whose elements are read like fields of their own."""
    element = pl.element()
    if inner.is_float():
        return _vector(column, dtype, asked, inner)
    if dtype == pl.String:
        text = stripped(element).drop_nulls()
        parts = column.str.split(asked.separator).list.eval(text.filter(~text.is_in(list(nulls))) if nulls else text)
        if inner == pl.String:
            # A list as Python or JSON writes it would be read as one value.
            brackets = column.str.contains(r"^\s*\[.*\]\s*$").fill_null(False)
            return Value(parts, brackets, f"values separated by {asked.separator!r}, without brackets")
        value = parts.list.eval(_whole_of(element))
        wrong = value.list.eval(element.is_null()).list.any().fill_null(False)
        return Value(value, wrong, f"whole numbers separated by {asked.separator!r}")
    if isinstance(dtype, pl.Array):
        column, dtype = column.arr.to_list(), pl.List(dtype.inner)
    if not isinstance(dtype, pl.List):
        return Value(None)
    given = dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner()
    if given == inner:
        one = Value(element)
    elif given == pl.Null:
        one = Value(element.cast(inner))
    elif isinstance(given, pl.Categorical | pl.Enum):
        one = Value(element.cast(pl.String)) if inner == pl.String else Value(None)
    else:
        one = (text_value if inner == pl.String else _whole)(element, given)
    if one.value is None:
        return Value(None)
    # A list of nothing but nulls must not lose its type.
    value = column.list.eval(one.value.cast(inner))
    empty = value.list.eval(element.is_null()).list.any().fill_null(False)
    kind = "texts" if inner == pl.String else "whole numbers of at most 64 bits"
    return Value(value, empty, f"an array of {kind} without nulls")


def _vector(column: pl.Expr, dtype: pl.DataType, asked: Column, inner: pl.DataType) -> Value:
    """Return an array of finite numbers, every one in its place."""
    wanted = f"an array of finite numbers that a {str(inner).lower()} holds, without nulls"
    given: pl.DataType = pl.String()
    if dtype == pl.String:
        column = column.str.split(asked.separator)
        wanted = f"finite numbers that a {str(inner).lower()} holds, separated by {asked.separator!r}, none missing"
    elif isinstance(dtype, pl.Array | pl.List):
        column = column.arr.to_list() if isinstance(dtype, pl.Array) else column
        given = dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner()
        if given == pl.String:
            return Value(None)
    else:
        return Value(None)
    one = _number(pl.element(), given) if given != pl.Null else Value(pl.element().cast(pl.Float64))
    if one.value is None:
        return Value(None)
    number = one.value.cast(inner)
    # A number with a fraction becomes the nearest one, a whole one must fit.
    fits = number.is_finite() & ((number.cast(pl.Float64) == one.value) | (one.value != one.value.floor()))
    value = column.list.eval(pl.when(~one.wrong & fits).then(number))
    return Value(value, value.list.eval(pl.element().is_null()).list.any().fill_null(False), wanted)


def _of_length(found: Value, value: pl.Expr, length: int) -> Value:
    other = (value.list.len() != length).fill_null(False)
    why = ((~found.wrong & other, f"{length:,} values, as its length says"),)
    return Value(value, found.wrong | other, found.wanted, why)


_BITS = "a whole number of at most 64 bits"
_ROUNDED = "a number that a float64 holds exactly: publish it as int64 or string"
_SCALARS: dict[str, Callable[[pl.Expr, pl.DataType], Value]] = {
    "string": text_value,
    "int64": _whole,
    "float64": _number,
    "bool": _truth,
}
_WANTED = {
    "string": "a text",
    "int64": "a whole number",
    "float64": "a finite number",
    "bool": "true or false",
    "array<string>": "an array of texts",
    "array<int64>": "an array of whole numbers",
    "array<float32>": "an array of numbers",
    "array<float64>": "an array of numbers",
}
