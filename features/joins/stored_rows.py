"""How are rows read that are too many for memory? As a table whose columns are read when they are asked for.

Such a table is written again in spans of rows, and what lies behind its histories once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.joins.histories import COUNT, START, is_view, view
from features.joins.spill import BLOCK, Column, Held, InFile, Spill, one_piece

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Rows = slice | Numbers
"""Which rows: a span, or numbers that ascend."""


@dataclass(frozen=True)
class Referred:
    """Histories: where each row's begins in the events, and how many it lists."""

    starts: Column
    counts: Column
    events: Column

    @property
    def type(self) -> pa.DataType:
        """List views of the events."""
        return pa.list_view(self.events.type)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts)

    def read(self, start: int, stop: int) -> pa.Array:
        """Return some rows, which share all events."""
        return view(self.starts.read(start, stop), self.counts.read(start, stop), whole(self.events))


@dataclass(frozen=True)
class StoredRows:
    """Rows whose columns lie on disk or in memory; what asks for names and columns takes it for an Arrow table."""

    columns: Mapping[str, Column]
    taken: Rows | None = None
    """Which of the rows; all when None."""

    @classmethod
    def of(cls, table: pa.Table) -> StoredRows:
        """Return the rows of a table in memory."""

        def column(name: str) -> Column:
            values = one_piece(table.column(name))
            if not is_view(values.type):
                return Held(values)
            missing = values.is_null() if values.null_count else None
            starts, counts = (
                pa.array(part.to_numpy(), mask=None if missing is None else missing.to_numpy(zero_copy_only=False))
                for part in (values.offsets, values.sizes)
            )
            return Referred(Held(starts), Held(counts), Held(values.values))

        return cls({name: column(name) for name in table.column_names})

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        if isinstance(self.taken, slice):
            return int(self.taken.stop - self.taken.start)
        return len(self.taken) if self.taken is not None else len(next(iter(self.columns.values())))

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.num_rows

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return [*self.columns]

    @cached_property
    def schema(self) -> pa.Schema:
        """Arrow types of the columns."""
        return pa.schema([(name, column.type) for name, column in self.columns.items()])

    def take(self, rows: Rows) -> StoredRows:
        """Return some of all rows."""
        return replace(self, taken=_span(rows))

    def select(self, names: Sequence[str]) -> pa.Table:
        """Return some columns, read."""
        return pa.table({name: self.column(name) for name in names})

    def frame(self, names: Sequence[str]) -> pl.DataFrame:
        """Return some columns, read."""
        return pl.DataFrame(self.select(names))

    def with_column(self, name: str, column: Column) -> StoredRows:
        """Return the rows with a column, of all rows, in the place of one of that name or behind the others."""
        return replace(self, columns={**self.columns, name: column})

    def append_column(self, name: str, values: pa.Array | pa.ChunkedArray) -> StoredRows:
        """Return the rows with a column behind the others, given for these rows."""
        held = one_piece(values) if isinstance(values, pa.ChunkedArray) else values
        return replace(self, columns={**self.columns, name: Held(held) if self.taken is None else _Given(held)})

    def drop_columns(self, names: Sequence[str]) -> StoredRows:
        """Return the rows without some columns."""
        return replace(self, columns={name: column for name, column in self.columns.items() if name not in names})

    def column(self, which: str | int) -> pa.ChunkedArray:
        """Return a column in one piece, read."""
        name = self.column_names[which] if isinstance(which, int) else which
        column = self.columns[name]
        if not isinstance(column, Referred):
            return pa.chunked_array([self.read(name, 0, self.num_rows)])
        starts, counts = (self._read(part, 0, self.num_rows) for part in (column.starts, column.counts))
        return pa.chunked_array([_as_taken(starts, counts, whole(column.events))])

    def null_count(self, name: str) -> int:
        """Return how many rows have nothing in a column."""
        column = self.columns[name]
        one = replace(self, columns={name: column.starts if isinstance(column, Referred) else column})
        return sum(part.column(0).null_count for part in one.blocks([name]))

    def blocks(self, names: Sequence[str], rows: int = BLOCK) -> Iterator[pa.Table]:
        """Yield some columns of a span of rows after the other, each column in one piece; at least one, perhaps empty.

        Histories are read whole, with all of their events.
        """
        for start in range(0, max(1, self.num_rows), rows):
            stop = min(start + rows, self.num_rows)
            yield pa.table({name: self.read(name, start, stop) for name in names})

    def pieces(self) -> Iterator[pa.Table]:
        """Yield what each row group of the rows' one file holds of them."""
        [file] = {column.file for column in self.columns.values() if isinstance(column, InFile)}
        first = 0
        for size in file.sizes:
            mine = self._within(first, first + size)
            if mine.num_rows:
                yield mine.select(self.column_names)
            first += size

    def _within(self, first: int, last: int) -> StoredRows:
        """Return those of the rows whose numbers lie in a span."""
        if isinstance(self.taken, np.ndarray):
            return replace(self, taken=self.taken[slice(*np.searchsorted(self.taken, (first, last)))])
        taken = self.taken or slice(0, self.num_rows)
        begin = max(first, taken.start)
        return replace(self, taken=slice(begin, max(begin, min(last, taken.stop))))

    def read(self, name: str, start: int, stop: int) -> pa.Array:
        """Return a span of a column."""
        return self._read(self.columns[name], start, stop)

    def lists(self, name: str) -> Iterator[pa.Array]:
        """Yield spans of a column of lists; of histories all share their events, which are read once."""
        column = self.columns[name]
        events = whole(column.events) if isinstance(column, Referred) else None
        for start in range(0, max(1, self.num_rows), BLOCK):
            stop = min(start + BLOCK, self.num_rows)
            if isinstance(column, Referred):
                yield view(self._read(column.starts, start, stop), self._read(column.counts, start, stop), events)
            else:
                yield self._read(column, start, stop)

    def list_lengths(self, name: str) -> Iterator[Numbers]:
        """Yield how many values the lists of spans of rows hold, 0 where there is none."""
        column = self.columns[name]
        counts = column.counts if isinstance(column, Referred) else column
        for start in range(0, max(1, self.num_rows), BLOCK):
            found = self._read(counts, start, min(start + BLOCK, self.num_rows))
            lengths = found if isinstance(column, Referred) else pc.list_value_length(found)
            yield pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)

    def _read(self, column: Column, start: int, stop: int) -> pa.Array:
        if isinstance(column, Referred):
            starts, counts = (self._read(part, start, stop) for part in (column.starts, column.counts))
            return view(starts, counts, whole(column.events))
        if isinstance(column, _Given):
            return column.values.slice(start, stop - start)
        if self.taken is None:
            return column.read(start, stop)
        if isinstance(self.taken, slice):
            return column.read(self.taken.start + start, self.taken.start + stop)
        numbers = self.taken[start:stop]
        if not len(numbers):
            return column.read(0, 0)
        # A span of the file at a time, of which few rows may be wanted.
        pieces, begin, end = [], int(numbers[0]), int(numbers[-1]) + 1
        for first in range(begin, end, BLOCK):
            last = min(first + BLOCK, end)
            here = numbers[slice(*np.searchsorted(numbers, (first, last)))]
            pieces.append(column.read(first, last).take(pa.array(here - first)))
        return pa.concat_arrays(pieces)


@dataclass(frozen=True)
class _Given(Held):
    """A column of the rows that were taken, in memory."""


@dataclass(frozen=True)
class Same:
    """A column with one value in every row."""

    value: Any
    type: pa.DataType
    rows: int

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows

    def read(self, start: int, stop: int) -> pa.Array:
        """Return some rows."""
        return pa.repeat(pa.scalar(self.value, self.type), stop - start)


def _as_taken(starts: pa.Array, counts: pa.Array, events: pa.Array) -> pa.Array:
    """Return histories, a missing one beginning where the list before it ends: as Arrow leaves it when it takes rows.

    Nobody reads that, but equal training sets are then equal to the byte.
    """
    if not starts.null_count:
        return view(starts, counts, events)
    ends = pl.Series(pc.add(starts, counts)).forward_fill().fill_null(0).to_arrow()
    begins, sizes = pc.coalesce(starts, ends).cast(pa.int32()), counts.cast(pa.int32()).fill_null(0)
    return pa.ListViewArray.from_arrays(begins, sizes, events, mask=starts.is_null())


def whole(column: Column) -> pa.Array:
    """Return all values of a column."""
    return column.read(0, len(column))


def write_together(folder: Path, tables: Mapping[str, pa.Table | StoredRows]) -> None:
    """Write each table to `<its name>.parquet`, and what lies behind their histories once for all of them.

    Args:
        folder: where to write.
        tables: rows of one table, whose histories are views of the same values.
    """
    stored = {name: table if isinstance(table, StoredRows) else StoredRows.of(table) for name, table in tables.items()}
    first = next(iter(stored.values()))
    files = {f"events/{number}.parquet": names for number, names in enumerate(_alike([*stored.values()]))}
    for file, features in files.items():
        _write(StoredRows({name: _histories(first)[name].events for name in features}), folder / file)
    for name, rows in stored.items():
        columns = {n: column for n, column in rows.columns.items() if not isinstance(column, Referred)}
        for file, (feature, *_) in files.items():
            history = _histories(rows)[feature]
            columns |= {file + START: history.starts, file + COUNT: history.counts}
        _write(replace(rows, columns=columns), folder / f"{name}.parquet")


def _write(rows: StoredRows, path: Path) -> None:
    spill = Spill(path, BLOCK, compression="zstd")
    for block in rows.blocks(rows.column_names):
        spill.write(block)
    spill.close()


def _alike(tables: Sequence[StoredRows]) -> list[list[str]]:
    """Return the histories, those that are the same slices in every table together."""
    groups: list[list[str]] = []
    for name in _histories(tables[0]):
        same = (group for group in groups if all(_same(table, group[0], name) for table in tables))
        if (group := next(same, None)) is None:
            groups.append(group := [])
        group.append(name)
    return groups


def _histories(rows: StoredRows) -> dict[str, Referred]:
    return {name: column for name, column in rows.columns.items() if isinstance(column, Referred)}


def _same(table: StoredRows, left: str, right: str) -> bool:
    a, b = _histories(table)[left], _histories(table)[right]
    if len(a.events) != len(b.events):
        return False
    return all(
        one == other
        or all(
            block.column(0).equals(block.column(1))
            for block in replace(table, columns={"one": one, "other": other}).blocks(["one", "other"])
        )
        for one, other in ((a.starts, b.starts), (a.counts, b.counts))
    )


def _span(rows: Rows) -> Rows:
    """Return numbers that lie together as a span."""
    if isinstance(rows, slice) or not len(rows) or rows[-1] - rows[0] != len(rows) - 1:
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)
