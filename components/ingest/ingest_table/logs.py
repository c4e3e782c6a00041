"""What did users do beside the impressions? Each further log, read and checked as the impressions are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from components.ingest.ingest_table.config import EVENT, Config
from components.ingest.ingest_table.entities import numbers_of
from components.ingest.ingest_table.place import Log
from components.ingest.ingest_table.reading.files import Source
from components.ingest.ingest_table.reading.scan import Scan
from components.ingest.ingest_table.remarks import null_words, without_duplicates
from components.ingest.ingest_table.rows import Rows, covered, published, read_rows
from components.ingest.ingest_table.typed import Typed, identity
from features.declaration import Window


def read_logs(
    found: dict[str, tuple[Source, ...]],
    config: Config,
    window: Window,
    scratch: Path,
    report: Callable[[str], None],
) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Return the rows of each log in `window`, in a defined order, and notes about them.

    Args:
        found: files by role.
        config: what the columns mean.
        window: half-open.
        scratch: folder for copies of files.
        report: told one line per file.

    Raises:
        BadInputError: a file is damaged, lacks a column, or a field is not what its column promises.
    """
    frames: dict[str, pl.DataFrame] = {}
    notes: list[str] = []
    numbers = numbers_of(found, config, scratch) if config.logs else {}
    keys = {"user": config.user_key, "item": config.item_key}
    names = {"user": config.user_name, "item": config.item_name}
    for name, log in config.logs.items():

        def made(file: Scan, time: Typed, log: Log = log) -> list[Typed]:
            ids = (
                one
                for role, given in log.ids.items()
                for one in identity(names[role], keys[role].type, given, file, numbers.get(f"{role}s"))
            )
            return [*ids, *published(log.columns, file, time)]

        read = read_rows(found[f"logs/{name}"], log, window, scratch, report, made, "row")
        ids = {role: names[role] for role in log.ids}
        once, repeated = without_duplicates(read.rows, log, ids)
        columns = config.columns_of(log)
        first = [EVENT, *ids.values()]
        order = [*first, *(column for column in columns if column not in first)]
        frames[name] = once.select(columns).sort(order, maintain_order=True)
        counts = read.left_out | repeated | read.files
        notes += [_told(name, frames[name], ids, read)]
        notes += [f"log {name!r}: {count:,} {what}" for what, count in counts.items() if count]
        notes += null_words(once, log.null_values, f"log {name!r}")
    return frames, notes


def _told(name: str, rows: pl.DataFrame, ids: Mapping[str, str], read: Rows) -> str:
    if len(rows):
        of = ", ".join(f"{rows[column].n_unique():,} {role}s" for role, column in ids.items())
        return f"log {name!r}: {len(rows):,} rows of {of}"
    none = f"warning: log {name!r} has no row in the window"
    return none if read.span is None else f"{none}: its files cover {covered(read.span)}"
