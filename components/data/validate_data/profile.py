"""What is in each column? Null share, range and distinct values of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from features.joins.stored_rows import StoredRows

_WIDEST = 40
"""Characters of a value that a page shows."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column in figures; smallest and largest are lengths for a list, texts are compared as texts."""

    name: str
    kind: str
    """Arrow type."""
    nulls: float
    smallest: str
    largest: str
    distinct: int
    """Number of different values without null; of different elements for a list."""


def profile(table: pa.Table | StoredRows) -> tuple[ColumnProfile, ...]:
    """Return one profile per column, in the table's order."""
    return tuple(_column(table, name) for name in table.column_names)


def _column(table: pa.Table | StoredRows, name: str) -> ColumnProfile:
    kind = table.schema.field(name).type
    values = pl.Series(name, table.column(name))
    nested = isinstance(values.dtype, pl.List)
    ranged = values.list.len() if nested else values
    flat = values.explode() if nested else values
    unit = " elements" if nested else ""
    return ColumnProfile(
        name=name,
        kind=str(kind),
        nulls=values.null_count() / max(1, len(values)),
        smallest=_text(ranged.min(), unit),
        largest=_text(ranged.max(), unit),
        distinct=flat.drop_nulls().n_unique(),
    )


def _text(value: Any, unit: str) -> str:
    if value is None:
        return ""
    text = f"{value:%Y-%m-%d %H:%M:%S}" if hasattr(value, "strftime") else str(value)
    return (text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…") + unit
