"""Which rows of a table's files lie in the window, and what do they publish? Of impressions and of logs alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from components.ingest.ingest_table.config import CREATED, EVENT, Config
from components.ingest.ingest_table.entities import optional_columns, require_somewhere
from components.ingest.ingest_table.fields import Columns, as_columns, as_time
from components.ingest.ingest_table.place import Log
from components.ingest.ingest_table.reading.files import Source
from components.ingest.ingest_table.reading.scan import Scan, scan
from components.ingest.ingest_table.typed import Typed, derived, moment, moment_part, refuse, typed
from features.declaration import Window
from features.joins.spill import BLOCK
from features.rules.parse import parse

Made = Callable[[Scan, Typed], Sequence[Typed]]
"""Gives of a file and its moments every published column but the times, with what must be checked."""


@dataclass(frozen=True)
class Rows:
    """What the files of a table give."""

    rows: pl.DataFrame
    """Published columns of the rows in the window that were not stored too late."""
    span: tuple[datetime, datetime] | None
    """First and last time in the files, or None when they have no rows."""
    late: int
    """How many rows of the window were stored too late."""
    left_out: dict[str, int]
    """How many rows are not published, by what to tell of them."""
    files: dict[str, int]
    """How many rows or files lack something, by what to tell of them."""


def read_rows(
    found: Sequence[Source],
    table: Config | Log,
    window: Window,
    scratch: Path,
    report: Callable[[str], None],
    made: Made,
    what: str,
) -> Rows:
    """Return what the files of a table hold about `window`.

    Args:
        found: its files.
        table: what the config says of it.
        window: half-open.
        scratch: folder for copies of files.
        report: told one line per file.
        made: gives the columns.
        what: what a row is called.

    Raises:
        BadInputError: a file is damaged, or a field is not what its column promises.
    """
    parts = []
    for number, source in enumerate(found, start=1):
        report(f"reading {source.shown} ({number}/{len(found)})")
        parts.append(_part(source, table, window, scratch, made))
    lacking = [part.absent for part in parts]
    require_somewhere(lacking, table.files)
    spans = [part.span for part in parts if part.span]
    late = sum(part.late for part in parts)
    left_out = {
        "rows outside the window left out": sum(part.outside for part in parts),
        f"rows stored at {stored_until(table, window)} or later left out": late,
    }
    files = {f"rows of the files with empty lists gave no {what}": sum(part.empty for part in parts)} | {
        f"of {len(parts):,} files lack {name!r}": sum(name in one for one in lacking) for name in _any(lacking)
    }
    span = (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None
    return Rows(pl.concat([part.rows for part in parts]), span, late, left_out, files)


def published(columns: Columns, file: Scan, time: Typed) -> list[Typed]:
    """Return the columns that a table publishes beside ids and times, as files have them, of moments or by rules."""
    made: list[Typed] = []
    for name, column in as_columns(columns).items():
        if column.rule is not None:
            made += derived(name, parse(column.rule), file, required=column.required)
        else:
            made.append(moment_part(name, column, time) if column.moment is not None else typed(name, column, file))
    return made


def covered(span: tuple[datetime, datetime]) -> str:
    """Return the first and the last time as a reader reads them."""
    return f"{span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} UTC"


def stored_until(table: Config | Log, window: Window) -> datetime | None:
    """Return the first moment at which a row is stored too late to count, or None when none is."""
    late = [] if table.late_hours is None else [window.end + timedelta(hours=table.late_hours)]
    known = [] if table.created is None or window.known_until is None else [window.known_until]
    return min(late + known, default=None)


@dataclass(frozen=True)
class _Part:
    """What one file gives."""

    rows: pl.DataFrame
    """Published columns of its impressions in the window that were not stored too late."""
    span: tuple[datetime, datetime] | None
    """First and last time in the file, or None when it has no rows."""
    outside: int
    """How many rows lie outside the window."""
    late: int
    """How many rows of the window were stored too late."""
    absent: frozenset[str]
    """Optional columns that it lacks."""
    empty: int
    """How many rows of the file that lie in the window have empty lists in the place of impressions."""


def _at(moment: datetime, table: Config | Log, file: Scan) -> Typed:
    """Return one moment as the time of every row."""
    # Made of a column, so that there are as many as rows.
    some, at = file.column(table.read[0]), pl.lit(moment, pl.Datetime("us", "UTC"))
    return Typed(EVENT, "", pl.when(some.is_null()).then(at).otherwise(at).alias(EVENT), pl.lit(False), "")


def _any(lacking: Iterable[frozenset[str]]) -> list[str]:
    return sorted(frozenset().union(*lacking))


def _part(source: Source, table: Config | Log, window: Window, scratch: Path, made: Made) -> _Part:
    file = scan(source, table.read, table, scratch, optional_columns(as_columns(table.columns)), table.explode)
    # A clock that was never set is no mistake of the file: such a row lies outside the window.
    time = moment(EVENT, as_time(table.timestamp), file, early=True) if table.timed else _at(window.start, table, file)
    created = moment(CREATED, as_time(table.created), file) if table.created is not None else None
    whole = file.rows.select(
        time.value.min().alias("first"), time.value.max().alias("last"), time.wrong.sum().alias("wrong"),
        pl.len().alias("rows"),
    )  # fmt: skip
    first, last, wrong, total = file.collect(whole).row(0)
    if wrong:
        refuse(file, [time], file.rows)
    inside = time.value.is_between(window.start, window.end, closed="left")
    found = file.collect(file.rows.filter(inside))
    checks = [*made(file, time), *([created] if created else [])]
    refuse(file, checks, found.lazy(), inside)
    stored = created.value if created else time.value.alias(CREATED)
    published = [time.value, stored, *(one.value for one in checks if one.name and one is not created)]
    # Some of the rows after the others, so that what is made on the way is small.
    slices = found.iter_slices(BLOCK) if len(found) else [found]
    rows = pl.concat([file.collect(some.lazy().select(published)) for some in slices])
    until = stored_until(table, window)
    in_time = rows if until is None else rows.filter(pl.col(CREATED) < until)
    span = (first, last) if total and first is not None else None
    empty = 0 if file.empty is None else file.collect(file.empty.select(inside.sum())).item()
    return _Part(in_time, span, total - len(rows), len(rows) - len(in_time), file.absent, empty)
