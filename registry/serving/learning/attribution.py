"""Which label did an answered row earn? That of the feedback which came within its time, once.

One law for a pipeline that labels a window of the log (`ingest_served`) and for a service that learns as it answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from features.declaration import Name
from registry.serving.log.segments import SERVED

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ROW, REQUEST, AT = f"{SERVED}row", f"{SERVED}request", f"{SERVED}at"
EARLY = timedelta(seconds=10)
"""By how much the clocks of two processes that answer and take feedback may differ."""
PLACE, ITEM = "__place", "__item"
"""Columns of `asked` beside those of the log: the row's number in the table, and its item as a text."""


@dataclass(frozen=True)
class Law:
    """What feedback makes a row's label 1."""

    feedback: tuple[Name, ...]
    """Labels, shallow to deep."""
    funnel: bool
    """Whether a deeper feedback implies the shallower ones, which are then 1 too."""
    after: timedelta
    """How long after an answer feedback counts, the same for all of it."""
    at_once: bool = False
    """Whether feedback must also have been received in that time. A pipeline takes what came later but happened in
    time; who labels a row the moment that its time is over cannot wait for it."""


def asked(answers: pa.Table, item: str, *more: str) -> pl.DataFrame:
    """Return which question and item each row of a log answers, when, and further columns of it."""
    import polars as pl
    import pyarrow as pa

    return pl.DataFrame(answers.select([ROW, REQUEST, AT, *more])).with_columns(
        pl.Series(ITEM, answers[item].cast(pa.string())), pl.int_range(pl.len()).alias(PLACE)
    )


def asked_once(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of each question's first answer, in the order of time: an id that came before is left out."""
    import polars as pl

    first = rows.filter(pl.col(AT) == pl.col(AT).min().over(REQUEST))
    return first.sort(AT, ROW, PLACE).unique(ROW, keep="first", maintain_order=True)


def events_of(events: pa.Table | None) -> pl.DataFrame:
    """Return feedback, each event once, as it was received first."""
    import polars as pl

    if events is None:
        moment, text = pl.Datetime("us", "UTC"), pl.String()
        names = {"request": text, "item": text, "feedback": text, "event": text}
        return pl.DataFrame(schema={**names, "at": moment, "received": moment})
    return pl.DataFrame(events).sort("received", "event").unique("event", keep="first", maintain_order=True)


def named(events: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return each event with ``answered``, the moment of the row that it names; null where it names none.

    What was received before a row was answered is of an earlier answer to a question of the same id.
    """
    import polars as pl

    answered = rows.select(pl.col(REQUEST).alias("request"), pl.col(ITEM).alias("item"), pl.col(AT).alias("answered"))
    found = events.join(answered, on=["request", "item"], how="left")
    return found.with_columns(pl.when(pl.col("received") >= pl.col("answered") - EARLY).then(pl.col("answered")))


def in_time(events: pl.DataFrame, law: Law) -> pl.DataFrame:
    """Return the `named` events that came within the time of their row."""
    import polars as pl

    end = pl.col("answered") + law.after
    found = events.filter(pl.col("at") < end)
    return found.filter(pl.col("received") < end) if law.at_once else found


def labels(rows: pl.DataFrame, events: pl.DataFrame, law: Law) -> dict[str, pl.Series]:
    """Return the labels of rows by feedback, int8 in their order, from the events that came in time."""
    import polars as pl

    found: dict[str, pl.Series] = {}
    deeper = pl.Series("deeper", [0] * len(rows), dtype=pl.Int8)
    for name in reversed(law.feedback):
        positive = events.filter(pl.col("feedback") == name).select("request", "item").unique()
        hit = rows.join(
            positive.with_columns(pl.lit(1, pl.Int8).alias("hit")),
            left_on=[REQUEST, ITEM], right_on=["request", "item"], how="left", maintain_order="left",
        )["hit"].fill_null(0)  # fmt: skip
        if law.funnel:
            hit = deeper = (hit | deeper).cast(pl.Int8)
        found[name] = hit
    return {name: found[name] for name in law.feedback}


def received_before(events: pl.DataFrame, known: datetime) -> pl.DataFrame:
    """Return the events that had been received by a moment."""
    import polars as pl

    return events.filter(pl.col("received") < known)
