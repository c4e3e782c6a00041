"""Which labels did the answers of a window get? Those of feedback in time; what may still come is waited for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from components.ingest.ingest_served.answers import ANSWERS, ROLE, SHADOW, answers_of, by_role
from components.ingest.ingest_served.config import Config, Inputs, Outputs
from components.platform.artifacts import LabelledRows
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, MissingError, no_columns

if TYPE_CHECKING:
    import pyarrow as pa

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Counts:
    """What became of a window's answers and events."""

    rows: int
    """Answered rows of the window."""
    open: int
    """Those whose time for feedback was not over."""
    repeated: int
    """Those of a question whose id had come before."""
    late: int
    """Events that came after their answer's time."""
    unknown: int
    """Events that name no answer that was read."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write the labelled rows of the window.

    Raises:
        MissingError: nothing was answered in the window, or nothing is old enough yet.
        BadInputError: the log lacks a column that the config names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.ingest.events_table import write_events
    from registry.serving.log.segments import HASHED, hashed_in, segments_of

    questions, feedback = segments_of(context.settings.artifacts, config.serving)
    window = context.window
    # A window may end later today: what is not old enough by now is not a negative yet.
    known = min(window.known_until or window.end, datetime.now(UTC))
    context.progress("reading the log")
    answers = [*questions.read(window.start - HOUR, window.end + HOUR)]
    events = [*feedback.read(window.start - HOUR, known + HOUR)]
    table, told = one_table(answers)
    if table is None:
        raise MissingError(
            f"service {config.serving!r} has answered nothing in {window}: give it a `log`, ask it, or move the window"
        )
    hashed = sorted({name for segment in answers for name in hashed_in(segment.schema)} & {*table.column_names})
    if unread := [name for name in (config.item, config.time) if name in hashed]:
        raise BadInputError(
            f"the log of {config.serving!r} keeps {unread[0]!r} hashed, so feedback finds no row: "
            "take it out of log.hash"
        )
    table, shadow = by_role(table)
    labelled, counts = with_labels(table, one_table(events)[0], config, window.start, window.end, known)
    if labelled.num_rows == 0:
        raise MissingError(
            f"none of {counts.rows:,} answers of service {config.serving!r} in {window} is old enough to be labelled: "
            f"run it {config.after} later"
        )
    raw = [name for name in labelled.column_names if "." not in name]
    notes = {HASHED: json.dumps(hashed)} if hashed else None
    rows = labelled.select(raw).replace_schema_metadata(notes)
    draft = context.draft("rows")
    (draft / "raw").mkdir()
    pq.write_table(rows, draft / "raw" / "rows.parquet", compression="zstd")
    answered = answers_of(labelled, shadow, config.item)
    pq.write_table(answered, draft / ANSWERS, compression="zstd")
    import polars as pl

    events_of = [name for name in raw if config.features or name in told or name in config.feedback]
    kept = rows.select(events_of)
    schema = pa.schema([field.with_nullable(True) for field in kept.schema], notes)
    frame = pl.DataFrame(kept).sort(config.time, config.user, config.item, maintain_order=True)
    written = write_events(context.draft("events"), frame, schema, window)
    context.note(
        f"{labelled.num_rows:,} of {counts.rows:,} answered rows labelled; {counts.open:,} still open, "
        f"{counts.repeated:,} of questions that were asked twice; events: {counts.late:,} too late, {counts.unknown:,} "
        "of no answer that was read"
    )
    if said := beside(answered):
        context.note(said)
    for name in config.feedback:
        context.note(f"{name}: {sum(labelled[name].to_pylist()):,}")
    return Outputs(events=written, rows=LabelledRows(uri=str(draft)))


def beside(answers: pa.Table) -> str:
    """Return what is said of rows that another version than the champion answered; empty without any."""
    import pyarrow.compute as pc

    said = []
    if (version := f"{SHADOW}version") in answers.column_names:
        said.append(f"{answers.num_rows - answers[version].null_count:,} rows answered by a shadow too")
    if ROLE in answers.column_names and (canary := pc.sum(pc.equal(answers[ROLE], "canary")).as_py()):
        said.append(f"{canary:,} by a canary")
    return ", ".join(said)


def one_table(segments: Iterable[pa.Table]) -> tuple[pa.Table | None, set[str]]:
    """Return segments as one table, None of none, and the columns that questions told in all of them.

    A shadow may read others. The representations, the widest columns, are left out: nothing here asks for them.
    """
    import pyarrow as pa

    from registry.serving.log.segments import HIDDEN, TOLD

    tables = [*segments]
    if not tables:
        return None, set()
    shown = [table for table in tables if by_role(table)[0].num_rows] or tables
    told = [set(json.loads((table.schema.metadata or {}).get(TOLD, b"[]"))) for table in shown]
    plain = [
        table.select([name for name in table.column_names if name != HIDDEN]).replace_schema_metadata(None)
        for table in tables
    ]
    return pa.concat_tables(plain, promote_options="permissive"), set.intersection(*told)


def with_labels(
    answers: pa.Table, events: pa.Table | None, config: Config, start: datetime, end: datetime, known: datetime
) -> tuple[pa.Table, Counts]:
    """Return the answers of ``[start, end)`` whose time for feedback is over, with `row_id` and labels, and counts.

    An event belongs to the row of its question with its item; the same event counts once however often it was sent.

    Raises:
        BadInputError: a column that the config names is not there.
    """
    import pyarrow as pa

    from registry.serving.learning.attribution import (
        AT,
        PLACE,
        ROW,
        Law,
        asked,
        asked_once,
        events_of,
        in_time,
        labels,
        named,
        received_before,
    )

    if absent := [name for name in (config.user, config.item, config.time) if name not in answers.column_names]:
        raise BadInputError(f"the log of {config.serving!r} has {no_columns(absent, answers.column_names)}: name it")
    law = Law(config.feedback, config.funnel, config.after)
    rows = asked(answers, config.item, config.time)
    inside = rows.filter((rows[AT] >= start) & (rows[AT] < end))
    first = asked_once(inside)
    ready = first.filter(first[AT] + config.after <= known)
    came = named(received_before(events_of(events), known), first)
    timely = in_time(came, law)
    order = ready.sort(config.time, ROW)
    table = answers.take(pa.array(order[PLACE].to_numpy()))
    table = table.append_column("row_id", pa.array(range(table.num_rows), pa.int64()))
    for name, values in labels(order, timely, law).items():
        table = table.append_column(name, pa.array(values.to_numpy(), pa.int8()))
    unknown = came["answered"].null_count()
    late = len(came) - unknown - len(timely)
    return table, Counts(len(inside), len(first) - len(ready), len(inside) - len(first), late, unknown)
