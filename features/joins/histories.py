"""Where do the events of a history lie? Once, in a file of their own; a row only says where its slice of them begins.

The events lie in Parquet beside a table, a column per feature, those of a key together and its newest first, so that a
row's history is one slice. The table refers to a file ``x`` by the columns ``x#start`` and ``x#count``, null where
there is no list. In memory a history is an Arrow ``list_view``: all rows share one array of values. Nothing else knows
these files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import polars as pl

START, COUNT = "#start", "#count"
PIECE = 1 << 30
"""Values of a piece of plain lists, whose offsets have 32 bits."""
Whole = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Seen:
    """Which events each row of a table has seen."""

    events: pl.DataFrame
    """A column per feature, and the key and time of each event; those of a key together, its newest first."""
    features: tuple[str, ...]
    """Columns of `events` that are features."""
    starts: Whole
    """``[rows]``, place of the newest event."""
    counts: Whole
    """``[rows]``, how many events from there on."""

    def views(self) -> Iterator[tuple[str, pa.ListArray]]:
        """Yield the lists of each feature."""
        import polars as pl

        starts, counts = pa.array(self.starts), pa.array(self.counts)
        for name in self.features:
            [lists] = _lists(view(starts, counts, self.events[name].to_arrow(compat_level=pl.CompatLevel.oldest())))
            yield name, lists


def events_file(table: str, number: int) -> str:
    """Return the path, beside a table, of the events of one of its histories."""
    return f"{_folder(table)}{number}.parquet"


def files_of(table: str, files: Collection[str]) -> list[str]:
    """Return which of the files of an artifact hold a table, events included."""
    return sorted(file for file in files if file == table or file.startswith(_folder(table)))


def stored_columns(path: Path, names: Iterable[str]) -> list[str]:
    """Return the columns of a table that hold features: their own, or those of the reference to a history."""
    files = referred_files(pq.read_schema(path).names)
    referred = {feature: file for file in files for feature in pq.read_schema(path.parent / file).names}
    stored = ([referred[n] + part for part in (START, COUNT)] if n in referred else [n] for n in names)
    return list(dict.fromkeys(column for columns in stored for column in columns))


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a table, or some columns of them, its histories as views; without `columns` they come last."""
    if columns is None:
        return with_histories(pq.read_table(path), path)
    return with_histories(pq.read_table(path, columns=stored_columns(path, columns)), path, columns).select(columns)


def with_histories(table: pa.Table, path: Path, names: Collection[str] | None = None) -> pa.Table:
    """Return rows with histories instead of references to them.

    Args:
        table: rows of the table at `path`, in any order, those that refer to nothing included.
        path: Parquet file.
        names: the histories to return; all when None.
    """
    return with_events(table, events_behind(path, table.column_names, names))


def events_behind(
    path: Path, columns: Iterable[str], names: Collection[str] | None = None
) -> dict[str, dict[str, pa.Array]]:
    """Return by file that columns of the table at `path` refer to the events there, or those of some histories."""
    found: dict[str, dict[str, pa.Array]] = {}
    for file in referred_files(columns):
        here = pq.read_schema(path.parent / file).names
        events = pq.read_table(path.parent / file, columns=[n for n in here if names is None or n in names])
        found[file] = {name: _one(events[name]) for name in events.column_names}
    return found


def with_events(table: pa.Table, events: Mapping[str, Mapping[str, pa.Array]]) -> pa.Table:
    """Return rows with histories, which are views of the `events_behind` them, instead of references."""
    for file, features in events.items():
        starts, counts = (_one(table[file + part]) for part in (START, COUNT))
        table = table.drop_columns([file + START, file + COUNT])
        for name, values in features.items():
            table = table.append_column(name, view(starts, counts, values))
    return table


def view(starts: pa.Array, counts: pa.Array, values: pa.Array) -> pa.ListViewArray:
    """Return slices of values, null where there is none."""
    here, size = (each.cast(pa.int32()).fill_null(0) for each in (starts, counts))
    return pa.ListViewArray.from_arrays(here, size, values, mask=starts.is_null())


def is_view(found: pa.DataType) -> bool:
    """Return whether rows of a column of this type may share values."""
    return bool(pa.types.is_list_view(found) or pa.types.is_large_list_view(found))


def listed(table: pa.Table) -> pa.Table:
    """Return rows with their histories as plain lists: a copy of an event for each row that lists it."""
    for at, field in enumerate(table.schema):
        if is_view(field.type):
            lists = [part for chunk in table.column(at).chunks for part in _lists(chunk)]
            table = table.set_column(at, field.name, pa.chunked_array(lists, pa.list_(field.type.value_type)))
    return table


def _folder(table: str) -> str:
    return f"{table.removesuffix('.parquet')}.events/"


def referred_files(columns: Iterable[str]) -> list[str]:
    """Return the files of events that columns refer to."""
    return [name.removesuffix(START) for name in columns if name.endswith(f".parquet{START}")]


def _lists(column: pa.ListViewArray) -> Iterator[pa.ListArray]:
    """Yield pieces of a column as lists."""
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    cuts = [0, *np.searchsorted(ends, np.arange(PIECE, total, PIECE)), len(column)]
    for first, last in pairwise(cuts):
        part = column.slice(first, last - first)
        offsets = np.concatenate(([0], np.cumsum(sizes[first:last]))).astype(np.int32)
        yield pa.ListArray.from_arrays(
            pa.array(offsets), part.flatten(), type=pa.list_(column.type.value_type), mask=part.is_null()
        )


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
