"""How do logged events become the Parquet files behind Feast's sources? By executing each source's recipe."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from features.declaration import Window
from features.definitions.recipe import Activity, History, Profile, Recipe
from features.ground.errors import BadInputError, listed
from features.joins.table_types import cast, filled

EVENT_TIME, CREATED = "event_timestamp", "created_timestamp"
TICK = timedelta(microseconds=1)
"""Resolution of every timestamp: the shortest time by which something can be earlier."""


def compute_table(recipe: Recipe, events: pl.LazyFrame, window: Window) -> pl.DataFrame:
    """Return the rows that a recipe gives for the events of a window.

    Args:
        recipe: what to compute.
        events: the log that the recipe names, with `event_timestamp` and `created_timestamp` in ``datetime[us, UTC]``,
            in any order; the result does not depend on it.
        window: events outside are not counted.

    Returns:
        Key, `event_timestamp`, `created_timestamp` and the features, sorted by key and time, with one
        row per key and time.

    Raises:
        BadInputError: a column of the recipe is missing.
    """
    read = sorted({*recipe.reads, EVENT_TIME, CREATED})
    absent = sorted(set(read) - set(events.collect_schema().names()))
    if absent:
        raise BadInputError(
            f"the events have no column {', '.join(map(repr, absent))} that the features of "
            f"{', '.join(map(repr, recipe.keys))} are made of; add it at ingestion or change the recipe in its "
            "definitions"
        )
    inside = events.select(read).filter(
        pl.col(EVENT_TIME).is_between(window.start, window.end, closed="left"),
        pl.all_horizontal(pl.col(recipe.keys).is_not_null()),
    )
    if isinstance(recipe, Profile):
        return _profile(recipe, inside).collect()
    return _activity(recipe, inside)


def write_table(frame: pl.DataFrame, columns: dict[str, str], path: Path, keys: Collection[str] = ()) -> None:
    """Write a source's file with the dtypes its feature view declares.

    Args:
        frame: rows of `compute_table`.
        columns: Feast dtype by column, keys of the view included.
        path: Parquet file to write; times are ``timestamp[us, UTC]``, which Feast's offline engine needs.
        keys: columns that tell a row in an error, besides its time.

    Raises:
        BadInputError: a declared column is not made by the recipe, or its dtype would change a value.
    """
    absent = sorted(set(columns) - set(frame.columns))
    if absent:
        raise BadInputError(
            f"{path.stem}: the recipe gives no {', '.join(map(repr, absent))}, only "
            f"{listed(sorted(frame.columns))}; make the view's schema and the recipe agree"
        )
    where = {name: frame[name] for name in columns if name in keys} | {EVENT_TIME: frame[EVENT_TIME]}
    typed = [filled(cast(frame[name], dtype, path.stem, where), dtype, path.stem) for name, dtype in columns.items()]
    pl.DataFrame([*typed, frame[EVENT_TIME], frame[CREATED]]).write_parquet(path, compression="zstd", statistics=True)


def _profile(recipe: Profile, events: pl.LazyFrame) -> pl.LazyFrame:
    changed: Iterable[pl.Expr] = (
        pl.col(name).ne_missing(pl.col(name).shift(1).over(recipe.keys)) for name in recipe.columns
    )
    first = pl.int_range(pl.len()).over(recipe.keys) == 0
    before = pl.col(EVENT_TIME) - TICK
    return (
        events.sort(*recipe.keys, EVENT_TIME, CREATED, *recipe.columns)
        .unique([*recipe.keys, EVENT_TIME], keep="last", maintain_order=True)
        .with_columns(__first=first)
        .filter(pl.col("__first") | pl.any_horizontal(*changed))
        .with_columns(
            pl.when("__first").then(before).otherwise(EVENT_TIME).alias(EVENT_TIME),
            pl.when("__first").then(before).otherwise(CREATED).alias(CREATED),
        )
        .select(*recipe.keys, EVENT_TIME, CREATED, *recipe.columns)
    )


def _activity(recipe: Activity, events: pl.LazyFrame) -> pl.DataFrame:
    keys, prefix = recipe.keys, recipe.prefix
    listed = list(recipe.history.columns.values()) if recipe.history else []
    labels = sorted({rate.feedback for rate in recipe.rates})
    count = (pl.int_range(pl.len()) + 1).over(keys)
    rates = [
        ((pl.col(rate.feedback).fill_null(0).cast(pl.Int64).cum_sum().over(keys) + rate.prior * rate.weight)
         / (count + rate.weight)).cast(pl.Float32).alias(f"{prefix}_{rate.feedback}_rate")
        for rate in recipe.rates
    ]  # fmt: skip
    sums = [
        # As float64, in which whole numbers add up exactly and a small integer type does not overflow.
        pl.col(part.column).fill_null(0).cast(pl.Float64).rolling_sum_by(EVENT_TIME, f"{part.days}d", closed="right")
        .over(keys).alias(recipe.total(part))
        for part in recipe.sums
    ]  # fmt: skip
    within = dict.fromkeys([*listed[:1], CREATED, *labels, *listed])
    within.pop(EVENT_TIME, None)
    ordered = events.sort(*keys, EVENT_TIME, *within).collect()
    running = ordered.with_columns(
        *rates,
        *sums,
        count.cast(pl.Int64).alias(recipe.count),
        pl.col(CREATED).cum_max().over(keys),
        __position=pl.int_range(pl.len(), dtype=pl.Int64),
    )
    states = running.unique([*keys, EVENT_TIME], keep="last", maintain_order=True).with_columns(
        (pl.col(EVENT_TIME).diff().over(keys).dt.total_microseconds() / 1e6).alias(f"{prefix}_gap_seconds")
    )
    features = [
        recipe.count,
        *(f"{prefix}_{rate.feedback}_rate" for rate in recipe.rates),
        *map(recipe.total, recipe.sums),
    ]
    result = states.select(*keys, EVENT_TIME, CREATED, *features, f"{prefix}_gap_seconds")
    if recipe.history is None:
        return result
    positions = states["__position"].to_numpy()
    labelled = {rate.feedback for rate in recipe.rates}
    return result.with_columns(*_histories(recipe.history, ordered, states[recipe.count], positions, labelled))


def _histories(
    history: History,
    ordered: pl.DataFrame,
    counts: pl.Series,
    positions: np.ndarray[Any, Any],
    labels: Collection[str],
) -> list[pl.Series]:
    """List, for each state, the values at its position and before it, newest first.

    Args:
        history: what to list.
        ordered: events, those of one key in a row, oldest first.
        counts: events of the key so far, per state.
        positions: int64 ``[states]``, row in `ordered` of each state's newest event.
        labels: columns in which a missing value is 0.
    """
    lengths = np.minimum(counts.to_numpy(), history.length)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    rows = np.repeat(positions, lengths) - back
    offset_array = pa.array(offsets.astype(np.int64))

    def listed(column: pl.Series, name: str) -> pl.Series:
        values = column.to_arrow().take(pa.array(rows))
        return pl.Series(name, pl.from_arrow(pa.LargeListArray.from_arrays(offset_array, values)))

    def plain(column: pl.Series) -> pl.Series:
        if isinstance(column.dtype, pl.Datetime):
            return column.dt.cast_time_unit("us").to_physical()
        return column.fill_null(0).cast(pl.Int64) if column.name in labels else column

    return [listed(plain(ordered[column]), name) for name, column in history.columns.items()]
