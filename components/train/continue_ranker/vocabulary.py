"""Which values get a row of their own today, and which lose theirs? Admission by the window, expiry by the calendar.

Monolith (Liu et al., "Monolith: Real Time Recommendation System With Collisionless Embedding Table", ORSUM 2022)
filters rare ids before they get a row, and drops rows that nothing reads. Here the count is that of the training window
(`min_count` of the encoding), so a filter has no state that could disagree with the table. Rows are copied by id into
the tables of the day: a value's number may change from day to day, its vector does not, and no free list is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.train.continue_ranker.config import TableGrowth
from features.encoding.encoder import Encoder
from features.encoding.fitted import LISTS, FittedField
from features.encoding.vocabularies import Vocabulary
from features.joins.histories import listed, read_table

VALUE, DAY = "value", "day"


@dataclass(frozen=True)
class Seen:
    """What the training rows hold."""

    tables: Mapping[str, pl.DataFrame]
    """By table, each distinct value and the last UTC day it was read on, int32 days since 1970-01-01."""
    today: int
    """Day of the latest row."""


@dataclass(frozen=True)
class Known:
    """What the predecessor knew."""

    encoder: Encoder
    last_seen: Mapping[str, np.ndarray[Any, Any]]
    """By table, int32 ``[values]`` days since 1970-01-01, in the order of the vocabulary."""


@dataclass(frozen=True)
class Grown:
    """The vocabularies of today."""

    encoder: Encoder
    last_seen: dict[str, np.ndarray[Any, Any]]
    """See `Known`."""
    tables: tuple[TableGrowth, ...]
    """Counts per vocabulary, sorted by name."""


def seen_in(rows: Path, encoder: Encoder, time: str) -> Seen:
    """Return which values the raw training rows hold, and when last."""
    utc = pl.col(time).dt.convert_time_zone("UTC")
    days = pl.scan_parquet(rows).select(utc.dt.date().cast(pl.Int32).alias(DAY)).collect()
    tables = {}
    for table, values in encoder.vocabularies.items():
        columns = [_values(rows, days, field, values) for field in encoder.fitted if field.table == table]
        tables[table] = (
            pl.concat(columns).group_by(VALUE).agg(pl.col(DAY).max()).sort(VALUE).collect(engine="streaming")
        )
    return Seen(tables, int(days.select(pl.col(DAY).max()).item()))


def _values(rows: Path, days: pl.DataFrame, field: FittedField, vocabulary: Vocabulary) -> pl.LazyFrame:
    """Return value and day of every occurrence in a column, missing ones left out."""
    values = pl.DataFrame(listed(read_table(rows, [field.name])))
    column = values.lazy().rename({field.name: VALUE}).with_columns(days[DAY])
    if field.kind in LISTS:
        column = column.explode(VALUE)
    return column.drop_nulls().with_columns(pl.col(VALUE).cast(pl.Series(vocabulary.values[:0]).dtype))


def grow(
    today: Encoder, seen: Seen, before: Known | None, forget_after_days: int | None, lasting: tuple[str, ...] = ()
) -> Grown:
    """Return today's vocabularies: those of the training window and what the predecessor remembers.

    A value of the predecessor that the window does not admit keeps its row for `forget_after_days` days: seen last on
    day s, it has one on days ``[s, s + forget_after_days)``. Numbers and bins keep the predecessor's scales and edges,
    which its weights were learned with.

    Args:
        today: fitted on the training rows.
        seen: values in the training rows.
        before: the predecessor, encoded with the same kinds of fields; None starts from nothing.
        forget_after_days: None keeps rows for good.
        lasting: tables whose values never lose their row.
    """
    vocabularies: dict[str, Vocabulary] = {}
    last_seen: dict[str, np.ndarray[Any, Any]] = {}
    tables = []
    for table, admitted in sorted(today.vocabularies.items()):
        known = before.encoder.vocabularies[table].values if before else admitted.values[:0]
        last = before.last_seen[table] if before else np.zeros(0, dtype=np.int32)
        old = pl.DataFrame({VALUE: pl.Series(known), "last": pl.Series(last, dtype=pl.Int32)})
        own = pl.DataFrame({VALUE: pl.Series(admitted.values), "admitted": True})
        every = (
            own.join(old, on=VALUE, how="full", coalesce=True)
            .join(seen.tables[table], on=VALUE, how="left")
            .select(
                VALUE,
                pl.col("admitted").fill_null(value=False),
                pl.col("last").is_not_null().alias("old"),
                pl.max_horizontal("last", DAY).fill_null(seen.today).alias(DAY),  # known by its vector, read nowhere
            )
        )
        alive = pl.lit(value=True)
        if forget_after_days is not None and table not in lasting:
            alive = pl.col("admitted") | (seen.today - pl.col(DAY) < forget_after_days)
        kept = every.filter(alive).sort(VALUE)
        vocabularies[table] = Vocabulary.sorted(kept[VALUE].to_arrow())
        last_seen[table] = kept[DAY].to_numpy().astype(np.int32)
        carried = int(kept["old"].sum())
        tables.append(
            TableGrowth(
                table=table,
                rows=len(kept),
                carried=carried,
                new=len(kept) - carried,
                expired=len(known) - carried,
                not_admitted=len(seen.tables[table].join(kept, on=VALUE, how="anti")),
            )
        )
    fitted = before.encoder.fitted if before else today.fitted
    return Grown(Encoder(fitted=fitted, vocabularies=vocabularies), last_seen, tuple(tables))
