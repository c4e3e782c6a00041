"""How does a part of an activity become a number per event or moment? By what it counts, and over which events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from features.definitions.recipe import Activity, Count, Distinct, Part, Rate, Since, Sum
from features.recipes.windows import Spans, Whole, decayed
from features.rules.meets import holds
from features.rules.parse import parse

EVENT_TIME = "event_timestamp"
KEY, HEAD = "__key", "__head"
"""Columns with the number of each event's key, as `windows.groups` counts them, and the position of its first event."""
_NEVER = np.iinfo(np.int64).max


def conditions(recipe: Activity, schema: pl.Schema) -> list[pl.Expr]:
    """Return which events meet each condition of a recipe, as columns that `met` names.

    Raises:
        BadInputError: a column cannot be compared as its condition does.
    """
    shown = f"log {recipe.log!r}"
    return [holds(parse(where), schema, shown).alias(_column(where)) for where in recipe.conditions]


def met(where: str) -> pl.Expr:
    """Return the column that `conditions` made."""
    return pl.col(_column(where))


def so_far(part: Part) -> pl.Expr:
    """Return what a part without `over` is after each event, given `KEY` and `HEAD`; events lie by key and time."""
    time = pl.col(EVENT_TIME)
    if isinstance(part, Since):
        last = pl.when(met(part.where)).then(pl.int_range(pl.len())).forward_fill()
        return pl.when(last >= pl.col(HEAD)).then((time - time.gather(last)).dt.total_microseconds() / 1e6)
    if isinstance(part, Distinct):
        first = pl.struct(KEY, part.column).is_first_distinct() & pl.col(part.column).is_not_null()
        return _running(first.cast(pl.Int64))
    if isinstance(part, Sum) and part.days is not None:
        # As float64, in which whole numbers add up exactly and a small integer type does not overflow.
        numbers = pl.col(part.column).fill_null(0).cast(pl.Float64)
        return numbers.rolling_sum_by(EVENT_TIME, f"{part.days}d", closed="right").over(KEY)
    if isinstance(part, Sum):
        return _amount(part).cum_sum().over(KEY)
    total = _running(_amount(part))
    if isinstance(part, Rate):
        return ((total + part.prior * part.weight) / (events_so_far() + part.weight)).cast(pl.Float32)
    return total


def events_so_far() -> pl.Expr:
    """Return how many events a key has after each, given `HEAD`."""
    return pl.int_range(1, pl.len() + 1) - pl.col(HEAD)


def _running(whole: pl.Expr) -> pl.Expr:
    """Return what whole numbers of a key add up to so far: one pass over all keys, of which there may be millions."""
    total = whole.cum_sum()
    return total - (total - whole).gather(HEAD)


def fading(part: Part, half_life: timedelta, events: pl.DataFrame, group: Whole) -> np.ndarray[Any, Any]:
    """Return what a part over `Decay` is after each event, given the key of each (`windows.groups`)."""
    times = np.asarray(events[EVENT_TIME].to_physical().to_numpy())
    total = decayed(_numbers(events, _amount(part).cast(pl.Float64)), group, times, half_life)
    if not isinstance(part, Rate):
        return total
    count = decayed(np.ones(len(events)), group, times, half_life)
    return _share(part, total, count)


def windowed(part: Part, span: timedelta, events: pl.DataFrame, group: Whole, moments: Spans) -> np.ndarray[Any, Any]:
    """Return what a part over `Last` is at each moment."""
    count = moments.ends - moments.starts[span]
    if isinstance(part, Distinct):
        return moments.distinct(span, *_repeats(part.column, events))
    if isinstance(part, Sum) and not _is_whole(events.schema[part.column]):
        return moments.total_float(span, _numbers(events, _amount(part)), group)
    if isinstance(part, Sum):
        whole = pl.col(part.column).cast(pl.Int64).fill_null(0)
        return moments.total(span, _numbers(events, whole)).astype(np.float64)
    if isinstance(part, Count) and part.where is None:
        return count
    total = moments.total(span, _numbers(events, _amount(part)))
    return _share(part, total, count) if isinstance(part, Rate) else total


def _share(rate: Rate, positives: np.ndarray[Any, Any], count: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return ((positives + rate.prior * rate.weight) / (count + rate.weight)).astype(np.float32)


def _amount(part: Part) -> pl.Expr:
    """Return what one event adds to a part."""
    if isinstance(part, Rate):
        return pl.col(part.feedback).fill_null(0).cast(pl.Int64)
    if isinstance(part, Sum):
        number = pl.col(part.column).cast(pl.Float64)
        return pl.when(number.is_finite()).then(number).otherwise(0.0)
    where = part.where if isinstance(part, Count) else None
    return met(where).cast(pl.Int64) if where is not None else pl.lit(1, pl.Int64)


def _column(where: str) -> str:
    return f"__where {where}"


def _is_whole(dtype: Any) -> bool:
    return dtype == pl.Boolean or (dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128))


def _numbers(events: pl.DataFrame, expression: pl.Expr) -> np.ndarray[Any, Any]:
    return np.asarray(events.with_columns(__number=expression)["__number"].to_numpy())


def _repeats(column: str, events: pl.DataFrame) -> tuple[Whole, Whole]:
    """Return the µs since a key had the same value before and until it has it again; -1 where it is missing."""
    time = pl.col("__time")
    same = pl.col(column).eq_missing(pl.col(column).shift(1)) & (pl.col(KEY) == pl.col(KEY).shift(1))
    told = pl.col(column).is_not_null()
    gaps = (
        events.select(column, KEY, __time=pl.col(EVENT_TIME).to_physical())
        .with_row_index("__row")
        .sort(KEY, column, "__row")
        .with_columns(before=pl.when(same).then(time - time.shift(1)))
        .with_columns(after=pl.col("before").shift(-1))
        .sort("__row")
        .select(pl.when(told).then(pl.col("before", "after").fill_null(_NEVER)).otherwise(-1))
    )
    return np.asarray(gaps["before"].to_numpy()), np.asarray(gaps["after"].to_numpy())
