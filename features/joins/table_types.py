"""Does a column fit the dtype that its feature view declares? Cast without loss, or refused with column and row.

A fraction that float32 rounds is no loss; a whole number that a float cannot hold exactly is one, for it may be an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from features.declaration import MISSING_ELEMENT
from features.ground.errors import BadInputError

_TYPES: dict[str, Any] = {
    "int32": pl.Int32,
    "int64": pl.Int64,
    "float32": pl.Float32,
    "float64": pl.Float64,
    "string": pl.String,
    "bool": pl.Boolean,
    "unix_timestamp": pl.Datetime("us", "UTC"),
}


def polars_type(dtype: str) -> Any:
    """Return the polars type of a Feast dtype such as ``int64`` or ``array<string>``."""
    return pl.List(polars_type(dtype[6:-1])) if dtype.startswith("array<") else _TYPES[dtype]


def cast(column: pl.Series, dtype: str, table: str, where: Mapping[str, pl.Series]) -> pl.Series:
    """Return a column in the type of a Feast dtype, every value the same.

    Raises:
        BadInputError: a value would change, or there is no such cast.
    """
    wanted = polars_type(dtype)
    if column.dtype == wanted:
        return column
    if column.dtype == pl.Null:
        return column.cast(wanted)
    nested = isinstance(column.dtype, pl.List | pl.Array)
    if nested != dtype.startswith("array<"):
        raise BadInputError(
            f"{table}: column {column.name!r} is {column.dtype}, not {dtype}; change the dtype in the feature view"
        )
    flat, rows = _flat(column) if nested else (column, None)
    element = dtype[6:-1] if nested else dtype
    if flat.null_count() < len(flat):
        changed = _changed(flat, element).fill_null(False)
        if changed.any():
            at = int(changed.arg_true()[0])
            row = int(rows[at]) if rows is not None else at
            place = ", ".join(f"{name} {values[row]}" for name, values in where.items())
            raise BadInputError(
                f"{table}: {column.name!r} is {flat[at]!r} in the row of {place}, which {dtype} cannot hold without "
                "loss; change the dtype in the feature view, or the column at ingestion"
            )
    return column.cast(wanted)


def elements(column: pl.Series, dtype: str, table: str, where: Mapping[str, pl.Series]) -> pl.Series:
    """Return what the lists of a feature are slices of, in the type of its Feast dtype's elements; see `filled`.

    Raises:
        BadInputError: the dtype is no array, a value would change, or a truth value is missing.
    """
    if not dtype.startswith("array<"):
        raise BadInputError(
            f"{table}: column {column.name!r} is List({column.dtype}), not {dtype}; change the dtype in the feature "
            "view"
        )
    column = cast(column, dtype[6:-1], table, where)
    return column.fill_null(_instead(column.name, dtype, table)) if column.null_count() else column


def filled(column: pl.Series, dtype: str, table: str) -> pl.Series:
    """Return a column whose lists hold no null, since an online store cannot keep one inside a list.

    A missing element becomes `MISSING_ELEMENT` of its type, offline and online alike; the encoder reads that as
    missing.

    Raises:
        BadInputError: a truth value is missing inside a list.
    """
    if not isinstance(column.dtype, pl.List) or not _has_gap(column):
        return column
    return column.list.eval(pl.element().fill_null(_instead(column.name, dtype, table)))


def _instead(name: str, dtype: str, table: str) -> str | int | float:
    if dtype[6:-1] not in MISSING_ELEMENT:
        raise BadInputError(
            f"{table}: a list of {name!r} has a missing element, which {dtype} cannot hold: declare the feature "
            "as Array(Int64), or fill the column at ingestion"
        )
    return MISSING_ELEMENT[dtype[6:-1]]


def _has_gap(column: pl.Series) -> bool:
    gaps = column.list.eval(pl.element().is_null().any()).list.first()
    return bool(gaps.any())


def _flat(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the elements of all lists, and the row that each stands in; an empty list gives a null."""
    frame = pl.DataFrame({"__row": pl.int_range(len(column), eager=True), "__value": column}).explode("__value")
    return frame["__value"], frame["__row"]


def _changed(values: pl.Series, dtype: str) -> pl.Series:
    """Return where a value would change by the cast."""
    given, wanted = values.dtype, _TYPES[dtype]
    here = values.is_not_null()
    never = here & ~here
    if dtype == "unix_timestamp":
        if isinstance(given, pl.Datetime):
            return here & (values.cast(wanted).cast(given) != values)
        return never if given == pl.Date else here  # a number has no unit, a text no format
    if dtype == "string":
        return here if given.is_nested() else never
    if dtype == "bool":
        return here & (values != 0) & (values != 1) if given.is_numeric() else here
    made = values.cast(wanted, strict=False)
    lost = here & made.is_null()
    if given == pl.String and dtype in ("int32", "int64"):
        return lost | (here & (made.cast(pl.String) != values))  # 007 is not 7
    if (given.is_float() or given.is_decimal()) and dtype in ("int32", "int64"):
        return lost | (here & (made.cast(given) != values))
    if given.is_float() or given == pl.String:
        return lost | (here & made.is_infinite() & ~_is_infinite(values))
    if given.is_integer() and dtype in ("float32", "float64"):
        back = made.cast(pl.Float64).cast(pl.Int128, strict=False)
        return lost | (here & (back != values.cast(pl.Int128)))
    return lost


def _is_infinite(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float64, strict=False).is_infinite()
