"""How do logged events become the Parquet files behind Feast's sources? By executing each source's recipe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.declaration import LONGEST, Window
from features.definitions.recipe import Activity, Decay, History, Last, Part, Profile, Recipe
from features.ground.errors import BadInputError, listed
from features.joins.histories import COUNT, START, Seen, events_file
from features.joins.table_types import cast, elements, filled
from features.recipes.parts import HEAD, KEY, conditions, events_so_far, fading, met, so_far, windowed
from features.recipes.windows import Whole, groups, spans

EVENT_TIME, CREATED = "event_timestamp", "created_timestamp"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
"""Resolution of every timestamp: the shortest time by which something can be earlier."""


@dataclass(frozen=True)
class FeatureTable:
    """The rows that a recipe gives, sorted by key and time, with one row per key and time."""

    rows: pl.DataFrame
    """Key, `event_timestamp`, `created_timestamp` and every feature but histories."""
    histories: tuple[Seen, ...] = ()

    def whole(self) -> pl.DataFrame:
        """Return the rows with their histories as lists."""
        views = [view for history in self.histories for view in history.views()]
        return self.rows.with_columns(pl.Series(name, pl.from_arrow(lists)) for name, lists in views)


def compute_table(recipe: Recipe, events: pl.LazyFrame, window: Window) -> pl.DataFrame:
    """Return the rows that a recipe gives for the events of a window, histories as lists; see `compute`."""
    return compute(recipe, events, window).whole()


def compute(recipe: Recipe, events: pl.LazyFrame, window: Window) -> FeatureTable:
    """Return the rows that a recipe gives for the events of a window.

    Args:
        recipe: what to compute.
        events: the log that the recipe names, with `event_timestamp` and `created_timestamp` in ``datetime[us, UTC]``,
            in any order; the result does not depend on it.
        window: events outside are not counted.

    Returns:
        Key, `event_timestamp`, `created_timestamp` and the features.

    Raises:
        BadInputError: a column of the recipe is missing, or it cannot be added up or compared as the recipe does.
    """
    kept = inside(events.select(columns_read(recipe, events)), recipe, window)
    if isinstance(recipe, Profile):
        return FeatureTable(_profile(recipe, kept).collect())
    _require_numbers(recipe, kept.collect_schema())
    return _activity(recipe, kept, window.end)


def columns_read(recipe: Recipe, events: pl.LazyFrame) -> list[str]:
    """Return the columns of a log that a recipe needs.

    Raises:
        BadInputError: the log lacks one.
    """
    read = sorted({*recipe.reads, EVENT_TIME, CREATED})
    if absent := sorted(set(read) - set(events.collect_schema().names())):
        raise BadInputError(
            f"the events have no column {', '.join(map(repr, absent))} that the features of "
            f"{', '.join(map(repr, recipe.keys))} are made of; add it at ingestion or change the recipe in its "
            "definitions"
        )
    return read


def inside(events: pl.LazyFrame, recipe: Recipe, window: Window) -> pl.LazyFrame:
    """Return the events of a window that have all keys of a recipe."""
    return events.filter(
        pl.col(EVENT_TIME).is_between(window.start, window.end, closed="left"),
        pl.all_horizontal(pl.col(recipe.keys).is_not_null()),
    )


def write_table(
    table: FeatureTable | pl.DataFrame,
    columns: dict[str, str],
    path: Path,
    keys: Collection[str] = (),
    lengths: Mapping[str, int] | None = None,
) -> None:
    """Write a source's file with the dtypes its feature view declares, and the events of its histories beside it.

    Args:
        table: of `compute`, or rows that hold their lists.
        columns: Feast dtype by column, keys of the view included.
        path: Parquet file to write; times are ``timestamp[us, UTC]``, which Feast's offline engine needs.
        keys: columns that tell a row in an error, besides its time.
        lengths: most events of a history that is read less of than its recipe lists.

    Raises:
        BadInputError: a declared column is not made by the recipe, or its dtype would change a value.
    """
    if isinstance(table, pl.DataFrame):
        table = FeatureTable(table)
    for number, values in typed_events(table, columns, path, keys).items():
        file = path.parent / events_file(path.name, number)
        file.parent.mkdir(exist_ok=True)
        values.rechunk().write_parquet(file, compression="zstd")
    # In one piece: how a column lies in memory decides the file's row groups, and so its bytes.
    rows = typed_rows(table, columns, path, keys, lengths or {}).rechunk()
    rows.write_parquet(path, compression="zstd", statistics=True)


def typed_events(
    table: FeatureTable, columns: Mapping[str, str], path: Path, keys: Collection[str]
) -> dict[int, pl.DataFrame]:
    """Return the events of each history that `columns` names, by its number; see `write_table`."""
    found = {}
    for number, history in enumerate(table.histories):
        if here := {name: columns[name] for name in history.features if name in columns}:
            where = _where(history.events, keys)
            found[number] = pl.DataFrame(
                [elements(history.events[name], dtype, path.stem, where) for name, dtype in here.items()]
            )
    return found


def typed_rows(
    table: FeatureTable, columns: Mapping[str, str], path: Path, keys: Collection[str], lengths: Mapping[str, int]
) -> pl.DataFrame:
    """Return the columns of the file of a table, references to histories included; see `write_table`."""
    frame = table.rows
    made = {*frame.columns, *(name for history in table.histories for name in history.features)}
    if absent := sorted({*columns} - made):
        raise BadInputError(
            f"{path.stem}: the recipe gives no {', '.join(map(repr, absent))}, only "
            f"{listed(sorted(made))}; make the view's schema and the recipe agree"
        )
    plain = {name: dtype for name, dtype in columns.items() if name in frame.columns}
    where = _where(frame, keys)
    typed = [filled(cast(frame[name], dtype, path.stem, where), dtype, path.stem) for name, dtype in plain.items()]
    for number, history in enumerate(table.histories):
        if here := [name for name in history.features if name in columns]:
            file = events_file(path.name, number)
            longest = max(lengths.get(name, LONGEST) for name in here)
            typed.append(pl.Series(file + START, history.starts, pl.Int32))
            typed.append(pl.Series(file + COUNT, np.minimum(history.counts, longest), pl.Int32))
    return pl.DataFrame([*typed, frame[EVENT_TIME], frame[CREATED]])


def _where(frame: pl.DataFrame, keys: Collection[str]) -> dict[str, pl.Series]:
    return {name: frame[name] for name in (*keys, EVENT_TIME)}


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


def _require_numbers(recipe: Activity, schema: pl.Schema) -> None:
    added = [rate.feedback for rate in recipe.rates] + [part.column for part in recipe.sums]
    for name in added:
        if not (schema[name].is_numeric() or schema[name] in (pl.Boolean, pl.Null)):
            raise BadInputError(
                f"column {name!r} of the log {recipe.log!r} is {str(schema[name]).lower()}, which the features of "
                f"{', '.join(map(repr, recipe.keys))} cannot add up: ingest it as a number or change the recipe"
            )


def _activity(recipe: Activity, events: pl.LazyFrame, end: datetime) -> FeatureTable:
    keys = recipe.keys
    schema = events.collect_schema()
    ordered = (
        events.sort(*keys, EVENT_TIME, *_within(recipe, schema)).with_columns(conditions(recipe, schema)).collect()
    )
    lasting: dict[Part, timedelta] = {part: part.over.span for part in recipe.parts if isinstance(part.over, Last)}
    fades = {part: part.over.span for part in recipe.parts if isinstance(part.over, Decay)}
    group = groups(ordered, keys)
    ordered = ordered.with_columns(pl.Series(KEY, group), pl.Series(HEAD, np.searchsorted(group, group)))
    fell = (pl.col(CREATED) < pl.col(CREATED).shift(1)) & (pl.col(KEY) == pl.col(KEY).shift(1))
    running = ordered.with_columns(
        *(so_far(part).alias(recipe.name(part)) for part in recipe.parts if part not in lasting | fades),
        *(pl.Series(recipe.name(part), fading(part, half, ordered, group)) for part, half in fades.items()),
        events_so_far().cast(pl.Int64).alias(recipe.count),
        *([pl.col(CREATED).cum_max().over(KEY)] if ordered.select(fell.any()).item() else []),
        __position=pl.int_range(pl.len(), dtype=pl.Int64),
    )
    gap = pl.when(pl.col(KEY) == pl.col(KEY).shift(1)).then(pl.col(EVENT_TIME).diff().dt.total_microseconds() / 1e6)
    # Rows of one key and time lie together; to look for them everywhere takes several times the memory.
    last = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(-1)) for name in (KEY, EVENT_TIME))
    states = running.filter(last).with_columns(gap.alias(recipe.gap))
    del running
    if lasting:
        states = _at_moments(recipe, lasting, ordered, states, group, end)
    result = states.select(*keys, EVENT_TIME, CREATED, recipe.count, *map(recipe.name, recipe.parts), recipe.gap)
    labels = {rate.feedback for rate in recipe.rates}
    newest, number = states["__position"].to_numpy(), states[recipe.count].to_numpy()
    return FeatureTable(result, tuple(_seen(each, keys, ordered, newest, number, labels) for each in recipe.histories))


def _within(recipe: Activity, schema: pl.Schema) -> list[str]:
    """Return the columns that order a key's events of one time."""
    listed = dict.fromkeys(name for each in recipe.histories for name in each.columns.values())
    labels = sorted({rate.feedback for rate in recipe.rates})
    # Floats add up to other bits in another order.
    floats = [part.column for part in recipe.sums if isinstance(part.over, Decay) or schema[part.column].is_float()]
    within = dict.fromkeys([*list(listed)[:1], CREATED, *labels, *listed, *floats])
    within.pop(EVENT_TIME, None)
    return list(within)


def _at_moments(
    recipe: Activity,
    lasting: Mapping[Part, timedelta],
    ordered: pl.DataFrame,
    states: pl.DataFrame,
    group: Whole,
    end: datetime,
) -> pl.DataFrame:
    """Add what lies within spans to the states, and a row wherever it changes because an event leaves one.

    Such a row repeats the newest state. It has nothing that arrives later than the events so far, nor before its time.
    """
    lasts = states["__position"].to_numpy()
    times = states[EVENT_TIME].to_physical().to_numpy()
    moments = spans(group[lasts], times, lasts, list(dict.fromkeys(lasting.values())), (end - EPOCH) // TICK)
    values = {recipe.name(part): windowed(part, span, ordered, group, moments) for part, span in lasting.items()}
    changed = np.any([np.diff(each, prepend=0) != 0 for each in values.values()], axis=0)
    kept = moments.stands | changed  # a key's first moment stands
    time = pl.Series(moments.times[kept]).cast(states.schema[EVENT_TIME])
    created = pl.when(pl.Series(moments.stands[kept])).then(CREATED).otherwise(pl.max_horizontal(CREATED, time))
    return states[moments.newest[kept]].with_columns(
        *(pl.Series(name, each[kept]) for name, each in values.items()), created.alias(CREATED), time.alias(EVENT_TIME)
    )


def _seen(
    history: History,
    keys: Sequence[str],
    ordered: pl.DataFrame,
    newest: Whole,
    number: Whole,
    labels: Collection[str],
) -> Seen:
    """Return which events of its key each state has seen, or which of those that meet a condition.

    Args:
        history: what to list.
        keys: columns of the key.
        ordered: events, those of one key in a row, oldest first.
        newest: int64 ``[states]``, row in `ordered` of each state's newest event.
        number: int64 ``[states]``, events of the key so far.
        labels: columns in which a missing value is 0.
    """
    kept = ordered
    if history.where is not None:
        meets = ordered.select(met(history.where)).to_series()
        running = np.concatenate(([0], np.cumsum(meets.to_numpy())))
        kept = ordered.filter(meets)
        newest, number = running[newest + 1] - 1, running[newest + 1] - running[newest + 1 - number]

    def plain(column: pl.Series) -> pl.Series:
        if isinstance(column.dtype, pl.Datetime):
            return column.dt.cast_time_unit("us").to_physical()
        return column.fill_null(0).cast(pl.Int64) if column.name in labels else column

    columns = [plain(kept[column]).alias(name) for name, column in history.columns.items()]
    return Seen(
        events=pl.DataFrame([*(kept[name] for name in keys), kept[EVENT_TIME], *columns]).reverse(),
        features=tuple(history.columns),
        starts=np.where(number > 0, len(kept) - 1 - newest, 0),
        counts=np.minimum(number, history.length),
    )
