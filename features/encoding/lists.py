"""How does a column of lists become ``[rows, length]``: histories, times since their events, vectors?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.casts import as_dtype
from features.declaration import MISSING_ELEMENT
from features.encoding.fitted import FittedField
from features.ground.errors import BadInputError


def column_of(table: pa.Table, name: str, dtype: str, time: bool = False) -> pa.Array:
    """Return a feature's column as its dtype; raise BadInputError where it is missing or cannot be read so."""
    if name not in table.column_names:
        raise BadInputError(f"feature {name!r} is missing from the rows: add the column ({dtype})")
    return as_dtype(table.column(name), name, dtype, time)


def raw_column(field: FittedField, table: pa.Table) -> pa.Array:
    """Return a field's column, its lists with their newest value first whatever their order in the rows."""
    column = column_of(table, field.name, field.dtype, field.time)
    if field.order == "newest_first":
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    # Value i of all lists of a row lies as far from the row's end as it lay from its beginning.
    mirrored = np.repeat(offsets[:-1] + offsets[1:] - 1, lengths) - np.arange(offsets[-1])
    values = column.flatten().take(pa.array(mirrored))
    missing = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=column.type, mask=missing)


def elements(column: pa.Array, dtype: str) -> pa.Array:
    """Return what the lists hold, one after the other; what stands for a missing element is null again."""
    flat = column.flatten()
    missing = MISSING_ELEMENT.get(dtype[6:-1])
    if missing is None or isinstance(missing, float):  # a vector reads NaN as it reads null
        return flat
    return pc.if_else(pc.equal(flat, pa.scalar(missing, flat.type)), pa.scalar(None, flat.type), flat)


def pad(column: pa.Array, values: np.ndarray[Any, Any], length: int, padding: float) -> np.ndarray[Any, Any]:
    """Lay flattened list elements out as ``[rows, length]`` of the same dtype, the first `length` of each row."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])) if len(lengths) else np.zeros(0, dtype=np.int64)
    positions = np.arange(len(rows)) - np.repeat(starts, lengths)
    kept = positions < length
    padded = np.full((len(lengths), length), padding, dtype=values.dtype)
    padded[rows[kept], positions[kept]] = values[kept]
    return padded


def check_width(name: str, column: pa.Array, width: int) -> None:
    """Raise BadInputError where a vector has another width."""
    lengths = pc.list_value_length(column)
    wrong = pc.unique(lengths.filter(pc.not_equal(lengths, width)))
    if len(wrong):
        raise BadInputError(
            f"feature {name!r} holds vectors of width {wrong[0]}, its encoding says {width}: correct the vectors, or "
            "set length to their width"
        )


def request_times(table: pa.Table, name: str, wanted_by: str) -> np.ndarray[Any, Any]:
    """Return the requests' times as int64 µs since 1970 UTC."""
    if name not in table.column_names:
        raise BadInputError(f"column {name!r} is missing from the rows: {wanted_by!r} counts back from it, add it")
    column = table.column(name)
    if not pa.types.is_timestamp(column.type) or column.null_count:
        what = f"{column.null_count} nulls" if pa.types.is_timestamp(column.type) else str(column.type)
        raise BadInputError(f"column {name!r} holds {what}: {wanted_by!r} counts back from it, give every row a time")
    micros = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
    return np.asarray(micros.to_numpy())


def elapsed(column: pa.Array, requests: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    """Return float32 ``[rows, length]`` seconds from each event to its row's request, −1 where there is none."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    flat = elements(column, "array<int64>")
    missing = pc.is_null(flat).to_numpy(zero_copy_only=False)
    # Subtracted as whole microseconds: a float32 holds no time since 1970 to the second.
    since = np.repeat(requests, lengths) - flat.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    # Whatever lies after the request, however little, stays visibly below zero.
    seconds = np.where(missing | (since < 0), -1.0, since / 1e6).astype(np.float32)
    return pad(column, seconds, length, -1.0)
