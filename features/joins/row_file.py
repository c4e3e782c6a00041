"""How are the rows of a file read that are too many for memory? A block after the other, or some columns of all.

The events behind histories are read once for all blocks, which share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.joins.histories import (
    COUNT,
    START,
    events_behind,
    read_table,
    referred_files,
    stored_columns,
    with_events,
)
from features.joins.spill import blocks_of

ROWS = 1 << 16
"""Rows of a block unless told otherwise."""


@dataclass(frozen=True)
class RowFile:
    """A Parquet file of rows, whose histories may lie beside it; what asks for columns takes it for an Arrow table."""

    path: Path

    @cached_property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(pq.read_metadata(self.path).num_rows)

    @cached_property
    def column_names(self) -> list[str]:
        """Names of the columns, histories last."""
        stored = pq.read_schema(self.path).names
        files = referred_files(stored)
        references = {file + part for file in files for part in (START, COUNT)}
        histories = [name for file in files for name in pq.read_schema(self.path.parent / file).names]
        return [*(name for name in stored if name not in references), *histories]

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all rows."""
        return read_table(self.path, columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of all rows."""
        return self.read([name]).column(name)

    def blocks(self, columns: Sequence[str] | None = None, rows: int = ROWS) -> Iterator[pa.Table]:
        """Yield so many rows after the other, or some columns of them; of a file without rows one empty table.

        Histories are views of events that all blocks share.
        """
        wanted = self.column_names if columns is None else [*columns]
        stored = stored_columns(self.path, wanted)
        if not self.num_rows:
            yield self.read(wanted)
            return
        events = events_behind(self.path, stored, wanted)
        for block in blocks_of(self.path, stored, rows):
            yield with_events(block, events).select(wanted)

    def take(self, rows: np.ndarray[Any, np.dtype[np.int64]], columns: Sequence[str]) -> pa.Table:
        """Return some columns of some rows, whose numbers ascend."""
        found, first = [], 0
        for block in self.blocks(columns):
            here = rows[slice(*np.searchsorted(rows, (first, first + block.num_rows)))]
            found.append(block.take(pa.array(here - first)))
            first += block.num_rows
        return pa.concat_tables(found)
