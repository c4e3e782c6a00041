"""Which items could a user have chosen and did not? Drawn by popularity, each with what it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.ingest.sample_negatives.config import WEIGHT, Config, Inputs, Outputs
from components.platform.artifacts import EventsTable
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, no_columns

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

EVENT = "event_timestamp"
_ROW, _INDEX, _MASS, _FIRST, _KNOWN = "__row", "__index", "__mass", "__first", "__known"
_ROUNDS = 30
"""How often draws of a user's own items are drawn again before what is left is drawn one by one."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write the events with their negatives, and their further logs as they are.

    Raises:
        BadInputError: the log lacks a column, holds negatives already, or has nothing to draw from.
    """
    import shutil

    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.ingest.events_table import EVENTS, write_log

    source, draft = context.local(inputs.events), context.draft("events")
    file = source / f"{EVENTS}.parquet"
    schema = pq.read_schema(file)
    rows, notes = with_negatives(pl.read_parquet(file), config)
    for other in sorted(source.iterdir()):
        if other != file and other.suffix in (".json", ".parquet"):
            shutil.copyfile(other, draft / other.name)
    write_log(draft, EVENTS, rows, schema.append(pa.field(WEIGHT, pa.float64())).remove_metadata())
    for line in notes:
        context.note(line)
    return Outputs(events=EventsTable(uri=str(draft)))


def with_negatives(rows: pl.DataFrame, config: Config) -> tuple[pl.DataFrame, list[str]]:
    """Return positives and drawn negatives with `WEIGHT`, in a defined order, and notes about them.

    A negative of a positive at time t is an item with a row at t or before that the user has no row of in the whole
    table. With `n` draws, of chance q each, an item that was drawn k times weighs k / (n · q): the negatives of a
    positive weigh as much, on average, as there are items that could have been drawn, each alike.

    Raises:
        BadInputError: see `run`.
    """
    import polars as pl

    _check(rows, config)
    first = [EVENT, config.user, config.item]
    order = [*first, *(name for name in rows.columns if name not in first)]
    positives = rows.sort(order, maintain_order=True)
    drawn = _draw(positives, config)
    count = pl.Series(_ROW, drawn.row), pl.Series(_INDEX, drawn.index), pl.Series(_MASS, drawn.chance)
    picked = pl.DataFrame(count).group_by(_ROW, _INDEX).agg(pl.len().alias(WEIGHT), pl.col(_MASS).first())
    picked = picked.with_columns(pl.col(WEIGHT) / (config.per_positive * pl.col(_MASS))).sort(_ROW, _INDEX)
    base = positives[picked[_ROW]].drop(config.item, *config.item_columns)
    negatives = base.with_columns(
        drawn.items[picked[_INDEX]].alias(config.item),
        *(pl.lit(None).cast(rows.schema[name]).alias(name) for name in config.outcomes),
        *(pl.lit(0).cast(rows.schema[name]).alias(name) for name in config.feedback),
        picked[WEIGHT],
    )
    if config.item_columns:
        known = positives.select(config.item, EVENT, *config.item_columns)
        known = known.unique([config.item, EVENT], keep="last", maintain_order=True)
        negatives = negatives.sort(EVENT, maintain_order=True).join_asof(
            known, on=EVENT, by=config.item, check_sortedness=False
        )
    whole = pl.concat([positives.with_columns(pl.lit(1.0).alias(WEIGHT)), negatives.select(*positives.columns, WEIGHT)])
    told = f"{len(positives):,} positives, {len(negatives):,} negatives of {negatives[config.item].n_unique():,} items"
    notes = [told]
    if drawn.without:
        notes.append(f"{drawn.without:,} positives without a negative: their users chose every item known")
    return whole.sort([*order, WEIGHT], maintain_order=True), notes


def _check(rows: pl.DataFrame, config: Config) -> None:
    import polars as pl

    needed = [EVENT, config.user, config.item, *config.feedback, *config.item_columns, *config.outcomes]
    if absent := [name for name in needed if name not in rows.columns]:
        raise BadInputError(f"the events have {no_columns(absent, rows.columns)}: correct the config")
    if WEIGHT in rows.columns:
        raise BadInputError(f"the events have a column {WEIGHT!r} already: they hold drawn negatives, or rename it")
    label = config.feedback[0]
    if negatives := rows.select((pl.col(label) != 1).fill_null(True).sum()).item():
        raise BadInputError(
            f"{negatives:,} rows of {len(rows):,} are no positives of {label!r}: a log that has negatives needs none "
            "drawn, or name the label that every row has in feedback"
        )


@dataclass(frozen=True)
class _Drawn:
    """Items that were drawn."""

    items: pl.Series
    """Ids, by index."""
    row: NDArray[np.int64]
    """Of each draw the row of its positive."""
    index: NDArray[np.int64]
    """And its item."""
    chance: NDArray[np.float64]
    """And how probable that item was."""
    without: int
    """How many positives have no item to draw."""


def _draw(positives: pl.DataFrame, config: Config) -> _Drawn:
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(config.seed)
    items = positives.group_by(config.item).agg(
        pl.len().cast(pl.Float64).pow(config.alpha).alias(_MASS), pl.col(EVENT).min().alias(_FIRST)
    ).sort(_FIRST, config.item).with_row_index(_INDEX)  # fmt: skip
    mass = items[_MASS].to_numpy()
    reach = np.concatenate([[0.0], np.cumsum(mass)])
    times = positives[EVENT].to_physical().to_numpy()
    known = np.searchsorted(items[_FIRST].to_physical().to_numpy(), times, side="right")
    # What a user's own items weigh among those known by then.
    own = positives.select(config.user, config.item).unique().join(items, on=config.item).sort(_FIRST, _INDEX)
    own = own.with_columns(
        pl.col(_MASS).cum_sum().over(config.user), pl.int_range(1, pl.len() + 1).over(config.user).alias(_KNOWN)
    )
    until = positives.select(config.user, EVENT).join_asof(
        own.select(config.user, _FIRST, _MASS, _KNOWN), left_on=EVENT, right_on=_FIRST, by=config.user,
        check_sortedness=False,
    )  # fmt: skip
    left = reach[known] - until[_MASS].to_numpy()
    some = np.flatnonzero(known > until[_KNOWN].to_numpy())
    if not len(some):
        raise BadInputError("no positive has an item that its user did not choose: ingest a longer window")
    users = positives.select(pl.col(config.user).rank("dense")).to_series().cast(pl.Int64).to_numpy()
    taken = positives.join(items.select(config.item, _INDEX), on=config.item, how="left", maintain_order="left")[_INDEX]
    pairs = np.unique(users * len(items) + taken.to_numpy())

    def chosen(row: NDArray[Any], index: NDArray[Any]) -> NDArray[np.bool_]:
        code = users[row] * len(items) + index
        return pairs[np.minimum(np.searchsorted(pairs, code), len(pairs) - 1)] == code

    row = np.repeat(some, config.per_positive)
    index = np.zeros(len(row), dtype=np.int64)
    again = np.arange(len(row))
    for _ in range(_ROUNDS):
        at = row[again]
        found = np.searchsorted(reach, rng.random(len(again)) * reach[known[at]], side="right") - 1
        index[again] = np.minimum(found, known[at] - 1)
        again = again[chosen(at, index[again])]
    for draw in again:  # of users who chose nearly everything
        free = np.arange(known[row[draw]])
        free = free[~chosen(np.full(len(free), row[draw]), free)]
        index[draw] = rng.choice(free, p=mass[free] / mass[free].sum())
    return _Drawn(items[config.item], row, index, mass[index] / left[row], len(positives) - len(some))
