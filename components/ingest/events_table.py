"""How is an events table written, by every component that starts a pipeline: exactly typed, with its window?"""

from __future__ import annotations

from collections.abc import Mapping
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


def write_events(draft: Path, frame: pl.DataFrame, schema: pa.Schema, window: Window) -> EventsTable:
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


def write_log(draft: Path, name: str, frame: pl.DataFrame, schema: pa.Schema) -> None:
    """Write a further log of an events table as ``<name>.parquet``; see `write_events`."""
    import polars as pl
    import pyarrow.parquet as pq

    table = frame.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema).combine_chunks()
    pq.write_table(table, draft / f"{name}.parquet", compression="zstd", version="2.6")
