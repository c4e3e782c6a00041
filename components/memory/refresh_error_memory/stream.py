"""Which rows may teach the error memory? Labelled impressions the champion was neither fitted nor chosen on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.training_set import labelled_files
from components.platform.errors import BadInputError, MissingError
from features.declaration import Declaration
from features.joins.histories import listed
from features.joins.row_file import RowFile
from registry.serving.log.segments import hashed_in

ROW_ID = "row_id"
MICROSECONDS = pa.timestamp("us", tz="UTC")
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class StreamRows:
    """Labelled rows of one file or several in order of time and row id, read a block after the other."""

    files: tuple[RowFile, ...]
    file: np.ndarray[Any, np.dtype[np.uint8]]
    """Place in `files` of the file that holds each row."""
    at: Numbers
    """Number of the row in its file."""
    roles: pa.Table
    """Time, user and feedback of the rows."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.at)

    @cached_property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(dict.fromkeys(name for file in self.files for name in file.column_names))

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all rows."""
        whole = pa.concat_tables([_read(file, columns) for file in self.files], promote_options="default")
        before = np.cumsum([0, *(file.num_rows for file in self.files)])
        return whole.take(pa.array(before[self.file] + self.at))

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Yield some columns of so many rows after the other; histories are plain lists."""
        readers = [_reader(file, columns, self.at[self.file == place]) for place, file in enumerate(self.files)]
        for start in range(0, self.num_rows, rows):
            file, at = self.file[start : start + rows], self.at[start : start + rows]
            places = [np.flatnonzero(file == place) for place in range(len(self.files))]
            parts = [listed(reader.take(at[mine])) for reader, mine in zip(readers, places, strict=True) if len(mine)]
            block, order = pa.concat_tables(parts, promote_options="default"), np.concatenate(places)
            yield block if len(parts) == 1 else block.take(pa.array(np.argsort(order)))


def read_stream(directory: Path, declaration: Declaration, trained_until: datetime | None) -> StreamRows:
    """Return the rows at or after the champion's training cut, sorted by time and row id.

    All splits are read: how this training set was cut says nothing about the champion, which may come
    from another one.

    Raises:
        BadInputError: a role or feedback column is missing, or the champion does not say until when it was
            trained.
        MissingError: no row is late enough.
    """
    if trained_until is None:
        raise BadInputError(
            "the champion's contract does not say until when it was trained, so no row is known to be new to it: "
            "train and promote it again"
        )
    files = labelled_files(directory)
    names = [ROW_ID, declaration.time, declaration.user, *declaration.feedback]
    table = pa.concat_tables([_read(file, names) for file in files], promote_options="default")
    for name in names:
        if name not in table.column_names:
            raise BadInputError(
                f"the rows have no column {name!r}, which the champion's declaration names: build the training set "
                f"with feedback [{', '.join(declaration.feedback)}] as the champion's was"
            )
    moments = table.column(declaration.time).cast(MICROSECONDS)
    late = pc.fill_null(pc.greater_equal(moments, pa.scalar(trained_until, MICROSECONDS)), False)
    new = np.flatnonzero(late.to_numpy())
    if not len(new):
        newest = pc.max(moments).as_py()
        held = f"the newest of {table.num_rows} rows is of {newest:%Y-%m-%dT%H:%M:%SZ}" if newest else "there are none"
        raise MissingError(
            f"no labelled row is at or after {trained_until:%Y-%m-%dT%H:%M:%SZ}, until when the champion was trained: "
            f"{held}; move the window's end forward or wait for newer labels"
        )
    keys = table.select([declaration.time, ROW_ID]).take(pa.array(new))
    new = new[pc.sort_indices(keys, [(declaration.time, "ascending"), (ROW_ID, "ascending")]).to_numpy()]
    ends = np.cumsum([file.num_rows for file in files])
    file = np.searchsorted(ends, new, side="right").astype(np.uint8)
    roles = table.drop_columns([ROW_ID]).take(pa.array(new)).combine_chunks()
    return StreamRows(tuple(files), file, new - np.concatenate(([0], ends))[file], roles)


class _Reader(Protocol):
    def take(self, at: Numbers) -> pa.Table:
        """Return the rows of these numbers."""


def _reader(file: RowFile, columns: Sequence[str], at: Numbers) -> _Reader:
    """Return what gives rows of a file in the order in which they will be asked for."""
    names = [name for name in columns if name in file.column_names]
    if (np.diff(at) > 0).all():
        return _InTurn(file.blocks(names))
    return _Held(pa.concat_tables(list(file.blocks(names))))


@dataclass(frozen=True)
class _Held:
    """Rows of a file whose order is not that of time: all of them are in memory."""

    rows: pa.Table

    def take(self, at: Numbers) -> pa.Table:
        return self.rows.take(pa.array(at))


class _InTurn:
    """Rows of a file in its own order."""

    def __init__(self, blocks: Iterator[pa.Table]) -> None:
        self._blocks, self._first, self._block = blocks, 0, next(blocks)

    def take(self, at: Numbers) -> pa.Table:
        """Return the rows of these numbers, which come behind those that were taken before."""
        found = []
        while True:
            last = self._first + self._block.num_rows
            here = at[: int(np.searchsorted(at, last))] - self._first
            together = len(here) and here[-1] - here[0] == len(here) - 1
            found.append(self._block.slice(here[0], len(here)) if together else self._block.take(pa.array(here)))
            at = at[len(here) :]
            if not len(at):
                return pa.concat_tables(found)
            self._first, self._block = last, next(self._blocks)


def _read(file: RowFile, columns: Sequence[str]) -> pa.Table:
    return file.read([name for name in columns if name in file.column_names])


def check_readable(directory: Path, needed: Collection[str]) -> None:
    """Check that what the champion and its memory read is there by value.

    Raises:
        BadInputError: the log of a service keeps a hash of it.
    """
    import pyarrow.parquet as pq

    whole = directory / "raw" / "rows.parquet"
    hashed = {*hashed_in(pq.read_schema(whole))} if whole.exists() else set()
    if found := sorted(hashed & {*needed}):
        raise BadInputError(
            f"the log keeps {', '.join(map(repr, found))} hashed, and the champion or its memory reads it by value: "
            "take it out of log.hash"
        )


def microseconds(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a time column as int64 microseconds since 1970 UTC."""
    return table.column(column).cast(MICROSECONDS).cast(pa.int64()).to_numpy()


def user_groups(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return an int64 code per row that is equal for rows of one user; a missing user has −1."""
    indices = table.column(column).combine_chunks().dictionary_encode().indices
    return pc.fill_null(indices, -1).cast(pa.int64()).to_numpy(zero_copy_only=False)


def labels(table: pa.Table, feedback: tuple[str, ...]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the labels by feedback as float64, NaN where a label is missing."""
    return {name: table.column(name).cast(pa.float64()).to_numpy() for name in feedback}
