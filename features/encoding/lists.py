"""How does a column of lists become ``[rows, length]``: histories, times since their events, vectors?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.casts import as_dtype
from features.declaration import MISSING_ELEMENT
from features.encoding.fitted import FittedField
from features.encoding.slices import NEVER, NO_TIME, seconds_before, slices_of
from features.ground.errors import BadInputError
from features.joins.histories import is_view, listed


def column_of(table: pa.Table, name: str, dtype: str, time: bool = False) -> pa.Array:
    """Return a feature's column as its dtype; raise BadInputError where it is missing or cannot be read so."""
    place = table.schema.get_field_index(name)
    if place < 0 and name not in table.column_names:
        raise BadInputError(f"feature {name!r} is missing from the rows: add the column ({dtype})")
    column = table.column(place if place >= 0 else name)
    if is_view(column.type):
        column = listed(pa.table({name: column})).column(0)
    return as_dtype(column, name, dtype, time)


def lists_column(field: FittedField, table: pa.Table) -> pa.Array:
    """Return a field's lists, newest value first: as `raw_column`, or a view as it is where rows share values."""
    if not shares_values(table, field.name) or field.order != "newest_first":
        return raw_column(field, table)
    column = table.column(field.name)
    views = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    values = as_dtype(pa.chunked_array([views.values]), field.name, field.dtype[6:-1])
    kind = pa.LargeListViewArray if pa.types.is_large_list_view(views.type) else pa.ListViewArray
    missing = views.is_null() if views.null_count else None
    return kind.from_arrays(views.offsets, views.sizes, values, mask=missing)


def shares_values(table: pa.Table, name: str) -> bool:
    """Return whether a column is there and holds views of values that its rows share."""
    place = table.schema.get_field_index(name)  # the names of all columns cost as much as reading one
    if place < 0 and name not in table.column_names:
        return False
    return is_view(table.schema.field(place if place >= 0 else name).type)


def referenced(lists: pa.Array, most: int) -> pa.Array:
    """Return the values that rows list, each once per row, but no more than `most` times for one shared value.

    So a value is there `most` times or more just when rows list it so often.
    """
    values, starts, counts = slices_of(lists, np.iinfo(np.int32).max)
    running = np.bincount(starts, minlength=len(values) + 1)
    running -= np.bincount(starts + counts, minlength=len(values) + 1)
    times = np.cumsum(running, out=running)[:-1]
    if most == 1:
        return values.filter(pa.array(times > 0))
    return values.take(pa.array(np.repeat(np.arange(len(times)), np.minimum(times, most))))


def raw_column(field: FittedField, table: pa.Table) -> pa.Array:
    """Return a field's column, its lists with their newest value first whatever their order in the rows."""
    column = column_of(table, field.name, field.dtype, field.time)
    if field.order == "newest_first":
        return column
    lengths = lengths_of(column)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    # Value i of all lists of a row lies as far from the row's end as it lay from its beginning.
    mirrored = np.repeat(offsets[:-1] + offsets[1:] - 1, lengths) - np.arange(offsets[-1])
    values = column.flatten().take(pa.array(mirrored))
    missing = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=column.type, mask=missing)


def elements(column: pa.Array, dtype: str) -> pa.Array:
    """Return what the lists hold, one after the other; what stands for a missing element is null again."""
    return values_of(column.flatten(), dtype)


def values_of(flat: pa.Array, dtype: str) -> pa.Array:
    """Return elements of lists of a dtype with what stands for a missing one null again."""
    missing = MISSING_ELEMENT.get(dtype[6:-1])
    if missing is None or isinstance(missing, float):  # a vector reads NaN as it reads null
        return flat
    if not flat.null_count and pa.types.is_int64(flat.type) and not (flat.to_numpy() == missing).any():
        return flat  # as nearly always
    lacking = pc.equal(flat, pa.scalar(missing, flat.type))
    return pc.if_else(lacking, pa.scalar(None, flat.type), flat) if lacking.true_count else flat


def lengths_of(column: pa.Array) -> np.ndarray[Any, Any]:
    """Return integer ``[rows]``: how many values each list holds, 0 where it is missing."""
    if column.null_count:  # a missing list may span values
        return np.asarray(pc.fill_null(pc.list_value_length(column), 0).to_numpy())
    offsets = column.offsets.to_numpy()
    return np.asarray(offsets[1:] - offsets[:-1])


def pad(column: pa.Array, values: np.ndarray[Any, Any], length: int, padding: float) -> np.ndarray[Any, Any]:
    """Lay flattened list elements out as ``[rows, length]`` of the same dtype, the first `length` of each row."""
    lengths = lengths_of(column)
    if len(values) > length and lengths.max() > length:
        starts = np.cumsum(lengths) - lengths
        values = values[np.arange(len(values)) - np.repeat(starts, lengths) < length]
    padded = np.empty((len(lengths), length), dtype=values.dtype)
    padded.fill(padding)
    padded[np.arange(length) < lengths[:, None]] = values
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
    if column.type.unit != "us":
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    return np.concatenate([chunk.view(pa.int64()).to_numpy() for chunk in column.chunks] or [np.zeros(0, np.int64)])


def elapsed(column: pa.Array, requests: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    """Return float32 ``[rows, length]`` seconds from each event to its row's request, −1 where there is none."""
    flat = column.flatten()
    times = (flat.fill_null(NO_TIME) if flat.null_count else flat).to_numpy()
    return pad(column, seconds_before(np.repeat(requests, lengths_of(column)), times), length, NEVER)
