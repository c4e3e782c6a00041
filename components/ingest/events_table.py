"""How do impressions become an events table: in the window, exactly typed, and tied to their raw files?

Every component that starts a pipeline ends with these steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.artifacts import EventsTable
from components.platform.errors import BadInputError
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from features.ground.files import sha256_file

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ANNOTATION = "raw."
"""Prefix of the annotations that hold the sha256 of each raw file."""
TIME = "event_timestamp"


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


def inside(
    window: Window, frame: pl.DataFrame, *, what: str, where: str, remedy: str = "move the window of the pipeline there"
) -> pl.DataFrame:
    """Return the rows of `frame` whose ``event_timestamp`` lies in the half-open `window`.

    Args:
        window: half-open, UTC.
        frame: rows with an ``event_timestamp`` of ``datetime[us, UTC]``.
        what: what a row is, for the error: ``rating``.
        where: what the rows were read from, for the error.
        remedy: what the reader of the error should do.

    Raises:
        BadInputError: there is none; the message holds the time range that the data covers.
    """
    import polars as pl

    rows = frame.filter(pl.col(TIME).is_between(window.start, window.end, closed="left"))
    if rows.is_empty():
        time = pl.col(TIME).dt.to_string("%Y-%m-%d %H:%M")
        first, last = frame.select(time.min().alias("first"), time.max().alias("last")).row(0)
        raise BadInputError(f"no {what} lies in the window {window}: {where} covers {first} to {last} UTC; {remedy}")
    return rows


def with_attributes(rows: pl.DataFrame, table: pl.DataFrame, on: str, where: Path) -> pl.DataFrame:
    """Return impressions with the attributes of `table`, null where an id has no row.

    Args:
        rows: impressions.
        table: at most one row per id.
        on: column of the ids, of one type in both.
        where: file of the table, for the error.

    Raises:
        BadInputError: not one impression finds its row; a model would be trained on nothing but nulls.
    """
    if rows.is_empty() or rows[on].is_in(table[on].implode()).any():
        return rows.join(table, on=on, how="left")
    there = f"{table[on][0]!r} there" if len(table) else "the table holds no rows"
    raise BadInputError(
        f"{where}: not one of {len(rows):,} impressions finds its row, {on} is such as {rows[on][0]!r} in the log and "
        f"{there}; put the files of one release together"
    )


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
    import polars as pl
    import pyarrow.parquet as pq

    table = frame.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema).combine_chunks()
    pq.write_table(table, draft / "events.parquet", compression="zstd", version="2.6")
    (draft / "window.json").write_text(window.model_dump_json(), encoding="utf-8")
    return EventsTable(uri=str(draft))


def raw_annotations(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the annotations that tie an events table to the raw files it was read from, by their names."""
    return {ANNOTATION + name: sha256_file(path) for name, path in files.items()}


def changed_file(events: EventsTable, files: Mapping[str, Path | None], settings: Settings) -> str | None:
    """Return which raw file differs from the one that `events` was read from, or None.

    Args:
        events: a published table with `raw_annotations`.
        files: where each raw file lies now; None when it was not found.
        settings: where the table is stored.
    """
    read = open_store(settings).manifest(events).annotations
    for name, path in files.items():
        if path is None or not path.exists():
            return f"{path or name} is gone"
        if read.get(ANNOTATION + name) != sha256_file(path):
            return f"{path} has changed"
    return None
