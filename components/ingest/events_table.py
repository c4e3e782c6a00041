"""How is an events table written, by every component that starts a pipeline: exactly typed, with its window?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.artifacts import EventsTable
from features.declaration import Window

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

EVENTS = "events"
"""The log of impressions; a further log has another name."""
ANNOTATION = "raw."
"""Prefix of the annotations that hold the sha256 of each raw file."""


def schema_of(columns: Mapping[str, str]) -> pa.Schema:
    """Return the Arrow schema of columns by name, in their order.

    Args:
        columns: name → Arrow's word for a type, ``timestamp`` for UTC microseconds, ``array<...>`` for a list.
    """
    import pyarrow as pa

    def arrow(word: str) -> pa.DataType:
        if word.startswith("array<"):
            return pa.list_(arrow(word.removeprefix("array<").removesuffix(">")))
        return pa.timestamp("us", "UTC") if word == "timestamp" else pa.type_for_alias(word)

    return pa.schema([(name, arrow(word)) for name, word in columns.items()])


@dataclass(frozen=True)
class InOrder:
    """Rows of a log that are put in order a span of time after the other: in order they never lie in memory whole."""

    rows: pl.DataFrame
    order: tuple[str, ...]
    """Columns to sort by, the time first; rows that agree in all stay as they lie."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in order."""
        import numpy as np
        import polars as pl

        from features.joins.spill import rows_at_once

        time, most = pl.col(self.order[0]), rows_at_once()
        if len(self.rows) <= most:
            yield self.rows.sort(self.order, maintain_order=True)
            return
        times = self.rows[self.order[0]].to_physical().to_numpy()
        rises = bool((times[1:] >= times[:-1]).all())
        bounds = np.unique((times if rises else np.sort(times))[most::most])
        places = [0, *(np.searchsorted(times, bounds) if rises else ()), len(times)]
        for number, (first, last) in enumerate(pairwise([None, *bounds.tolist(), None])):
            if rises:
                here = self.rows[places[number] : places[number + 1]]
            else:
                at = time.to_physical()
                meets = [*([] if first is None else [at >= first]), *([] if last is None else [at < last])]
                here = self.rows.filter(*meets)
            yield here.sort(self.order, maintain_order=True)

    def whole(self) -> pl.DataFrame:
        """Return the rows in order, in memory."""
        import polars as pl

        return pl.concat(self.blocks())


def write_events(draft: Path, frame: pl.DataFrame | InOrder, schema: pa.Schema, window: Window) -> EventsTable:
    """Write the two files of an events table and return its draft.

    Args:
        draft: empty local folder of the output.
        frame: sorted rows with the columns of `schema`; the same rows give the same bytes.
        schema: exact Arrow types to write.
        window: where the rows come from.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its type.
    """
    write_log(draft, EVENTS, frame, schema)
    (draft / "window.json").write_text(window.model_dump_json(), encoding="utf-8")
    return EventsTable(uri=str(draft))


def write_log(draft: Path, name: str, frame: pl.DataFrame | InOrder, schema: pa.Schema) -> None:
    """Write a further log of an events table as ``<name>.parquet``; see `write_events`."""
    import polars as pl

    from features.joins.spill import BLOCK, Spill

    spill = Spill(draft / f"{name}.parquet", BLOCK, compression="zstd", version="2.6")
    for block in frame.blocks() if isinstance(frame, InOrder) else frame.iter_slices(BLOCK):
        spill.write(block.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema))
    spill.close(schema)
