"""How do rows wait that memory should not hold? On disk, as Parquet whose pages carry checksums.

They are read by column, by span, or by part: the rows of a part are those whose keys have one hash, so that what is
asked about a key is answered by one part alone. Files lie in a folder that its stage removes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import xor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.ground.errors import BadInputError, RetryableError

VARIABLE = "RANKMILL_ROWS_AT_ONCE"
"""Environment variable with the number of rows that a stage sorts and joins at once."""
MOST, FEWEST = 1_000_000, 1_000
"""Rows at once where memory is ample, and where hardly any is left."""
BYTES = 4096
"""Free memory that a row at once asks for: some ten columns, and what sorting and merging take on top."""
GROUP = 1 << 17
"""Rows of a row group: what is read at least."""
BLOCK = 1 << 20
"""Rows that are taken from one file to another at once."""
_HOW = {
    "compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True,
    "use_compliant_nested_type": False,
}  # fmt: skip


def rows_at_once() -> int:
    """Return how many rows are sorted and joined at once: as the variable says, or by the memory that is free now.

    Results do not depend on it.

    Raises:
        BadInputError: the variable is no number of rows.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return int(min(MOST, max(FEWEST, _free_bytes() // BYTES)))
    if not given.isdecimal() or int(given) < 1:
        raise BadInputError(f"{VARIABLE} is {given!r}, and must be a number of rows such as {MOST}")
    return int(given)


def _free_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


class Column(Protocol):
    """A column of rows that is read when it is asked for."""

    @property
    def type(self) -> pa.DataType:
        """Arrow type of what `read` returns."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def read(self, start: int, stop: int) -> pa.Array:
        """Return the values of some rows in one array."""


@dataclass(frozen=True)
class Held:
    """A column in memory."""

    values: pa.Array

    @property
    def type(self) -> pa.DataType:
        """Its type."""
        return self.values.type

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    def read(self, start: int, stop: int) -> pa.Array:
        """Return some rows."""
        return self.values.slice(start, stop - start)


@dataclass(frozen=True)
class Spilled:
    """A Parquet file whose rows are read in spans."""

    path: Path

    @cached_property
    def _file(self) -> pq.ParquetFile:
        with readable(self.path):
            return pq.ParquetFile(self.path, page_checksum_verification=True)

    @cached_property
    def _ends(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        found = self._file.metadata
        return np.cumsum([found.row_group(at).num_rows for at in range(found.num_row_groups)], dtype=np.int64)

    @property
    def sizes(self) -> list[int]:
        """How many rows each row group holds."""
        return [int(size) for size in np.diff(self._ends, prepend=0)]

    @property
    def schema(self) -> pa.Schema:
        """Columns of the file."""
        return self._file.schema_arrow

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._file.metadata.num_rows)

    def read(self, names: Sequence[str], start: int = 0, stop: int | None = None) -> pa.Table:
        """Return some columns of some rows, each in one piece.

        Raises:
            RetryableError: the file is not what was written.
        """
        stop = len(self) if stop is None else stop
        first, last = np.searchsorted(self._ends, (start, stop - 1), side="right") if stop > start else (0, -1)
        with readable(self.path):
            found = self._file.read_row_groups([*range(first, last + 1)], [*names], use_threads=False)
        begin = int(self._ends[first - 1]) if first else 0
        return found.slice(start - begin, stop - start).combine_chunks().select(names)

    def groups(self, numbers: Sequence[int]) -> pa.Table:
        """Return the rows of some row groups."""
        with readable(self.path):
            return self._file.read_row_groups([*numbers], use_threads=False)

    def columns(self) -> dict[str, InFile]:
        """Return its columns by name."""
        return {one.name: InFile(self, one.name, one.type) for one in self.schema}


@dataclass(frozen=True)
class InFile:
    """A column of a file."""

    file: Spilled
    name: str
    type: pa.DataType

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.file)

    def read(self, start: int, stop: int) -> pa.Array:
        """Return some rows."""
        return one_piece(self.file.read([self.name], start, stop).column(0))


class Spill:
    """A file that rows are written to as they come."""

    def __init__(self, path: Path, rows: int = GROUP, **how: Any) -> None:
        """Begin a file whose row groups hold `rows` each, the last one what is left.

        Args:
            path: file to write.
            rows: of a row group.
            how: options of `pyarrow.parquet.ParquetWriter` in the place of those of files that only wait.
        """
        self.path, self._rows, self._how = path, rows, how or _HOW
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._combine = True

    def write(self, table: pa.Table, *, combine: bool = True) -> None:
        """Add rows; without `combine` their columns stay in the pieces in which they come."""
        self._combine = combine
        self._waiting.append(table)
        while (held := sum(map(len, self._waiting))) >= self._rows:
            whole = pa.concat_tables(self._waiting)
            for start in range(0, held - held % self._rows, self._rows):
                self.write_group(whole.slice(start, self._rows))
            self._waiting = [whole.slice(held - held % self._rows)]

    def write_group(self, table: pa.Table) -> None:
        """Add rows as a row group of their own."""
        # In one piece: how a column lies in memory decides its pages, and so the file's bytes.
        rows = table.combine_chunks() if self._combine else table
        self._open(table.schema).write_table(rows, row_group_size=max(1, len(table)))

    def close(self, schema: pa.Schema | None = None) -> Spilled:
        """Write what is left, and return the file; a file of no rows needs its `schema`."""
        rest = pa.concat_tables(self._waiting) if self._waiting else schema.empty_table() if schema else None
        if rest is not None and (len(rest) or self._writer is None):
            self.write_group(rest)
        if self._writer is not None:
            self._writer.close()
        return Spilled(self.path)

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self.path, schema, **self._how)
        return self._writer


@dataclass(frozen=True)
class Parts:
    """Rows on disk, those of a key in one part, in the order in which they came."""

    file: Spilled
    groups: Sequence[Sequence[int]] = field(repr=False)
    """Row groups of each part."""

    def part(self, number: int) -> pl.DataFrame:
        """Return the rows of one part."""
        return pl.DataFrame(self.file.groups(self.groups[number]))


def divided(blocks: Iterable[pl.DataFrame], keys: Sequence[str], parts: int, path: Path) -> Parts:
    """Lay rows apart by the hash of their keys.

    Args:
        blocks: rows, at least one block.
        keys: columns of the key, of the same types wherever the same keys must come to the same part.
        parts: how many.
        path: file to write.
    """
    return laid_apart(blocks, lambda rows: rows.select(part_of(keys, parts)).to_series().to_numpy(), parts, path)


def laid_apart(
    blocks: Iterable[pl.DataFrame], part: Callable[[pl.DataFrame], np.ndarray[Any, Any]], parts: int, path: Path
) -> Parts:
    """Lay rows apart by a number below `parts` that `part` gives each, in the order in which they come."""
    spill, groups, count = Spill(path), list[list[int]]([] for _ in range(parts)), 0
    for block in blocks:
        number = part(block)
        order = np.argsort(number, kind="stable")
        ends = np.cumsum(np.bincount(number, minlength=parts))
        rows = block[order].to_arrow(compat_level=pl.CompatLevel.oldest())
        for place, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
            if stop > start:
                spill.write_group(rows.slice(int(start), int(stop - start)))
                groups[place].append(count)
                count += 1
    return Parts(spill.close(rows.schema), groups)


def part_of(keys: Sequence[str], parts: int) -> pl.Expr:
    """Return the number of the part that a row belongs to, of its keys alone."""
    hashed = reduce(xor, (pl.col(key).hash(seed=place) for place, key in enumerate(keys)))
    return (hashed % parts).cast(pl.UInt16)


def blocks_of(path: Path, names: Sequence[str], rows: int = BLOCK) -> Iterator[pa.Table]:
    """Yield the rows of any Parquet file, some columns of them, in blocks of so many; the last may be smaller."""
    waiting: list[pa.Table] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(min(rows, GROUP), columns=[*names], use_threads=False):
            waiting.append(pa.Table.from_batches([batch]))
            if sum(map(len, waiting)) >= rows:
                whole = pa.concat_tables(waiting)
                yield whole.slice(0, rows).combine_chunks().select(names)
                waiting = [whole.slice(rows)]
        if waiting and (sum(map(len, waiting)) or file.metadata.num_rows == 0):
            yield pa.concat_tables(waiting).combine_chunks().select(names)


def one_piece(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    found = column.combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with a file that cannot be read again.

    Raises:
        RetryableError: it cannot.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise RetryableError(
            f"{path.name}, which this stage put on disk, cannot be read again ({_first_line(error)}): check the disk "
            f"of {path.parent}, and run the stage again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
