"""How likely was each impression to be seen? Estimated on the training rows, written for all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from components.data.estimate_propensity.config import Config, Inputs, Outputs
from components.platform.artifacts import EventsTable
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, no_columns

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

TIME = "event_timestamp"
ITERATIONS, CLOSE = 2_000, 1e-7
"""Most steps of the click model, and the change of the places' chances below which it has settled."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write the table with the new column.

    Raises:
        BadInputError: a column is missing, holds nulls or other values than it must, or nothing can be estimated.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, draft = context.local(inputs.table), context.draft("table")
    table = pq.read_table(source / "events.parquet")
    if config.into in table.column_names:
        raise BadInputError(f"the table has a column {config.into!r} already: choose another name for into")
    wanted = list(dict.fromkeys(config.named.values()))
    if absent := [name for name in wanted if name not in table.column_names]:
        raise BadInputError(f"the table has {no_columns(absent, table.column_names)}: name another, or publish it")
    frame = pl.DataFrame(pl.from_arrow(table.select([TIME, *(name for name in wanted if name != TIME)])))
    values, fitted = propensities(frame, config)
    shutil.copytree(source, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json", "events.parquet"))
    made = table.append_column(config.into, pa.array(values))
    pq.write_table(made, draft / "events.parquet", compression="zstd", version="2.6")
    low = float((values <= config.floor).mean())
    context.note(
        f"{config.into}: {config.method} of {fitted:,} of {len(frame):,} rows, {values.min():.3g} to "
        f"{values.max():.3g}, mean {values.mean():.3g}; {low:.1%} of the rows are at the floor"
    )
    return Outputs(table=EventsTable(uri=str(draft)))


def propensities(frame: pl.DataFrame, config: Config) -> tuple[NDArray[np.float64], int]:
    """Return float64 ``[rows]`` in [floor, 1], and how many rows they were estimated from.

    Raises:
        BadInputError: as `run` says.
    """
    import polars as pl

    _check(frame, config)
    limit = config.learns_until(frame[TIME])
    train = frame if limit is None else frame.filter(pl.col(TIME) < limit)
    if train.is_empty():
        raise BadInputError(f"no row is earlier than {limit}: estimate from more with fit_before or fit_share")
    estimate = {"shown_share": _shown_share, "position": _position, "popularity": _popularity}[config.method]
    return np.clip(estimate(frame, train, config), config.floor, 1.0), len(train)


def _check(frame: pl.DataFrame, config: Config) -> None:
    for name in dict.fromkeys(config.named.values()):
        if missing := frame[name].null_count():
            raise BadInputError(f"{missing} rows have no {name!r}, which the propensity is estimated from: drop them")
    if config.feedback is not None and not frame[config.feedback].is_in([0, 1]).all():
        raise BadInputError(f"feedback {config.feedback!r} has rows that are neither 0 nor 1: name a label")
    if config.position is not None and not frame[config.position].dtype.is_integer():
        raise BadInputError(f"position {config.position!r} is {frame[config.position].dtype}: publish it as int64")


def _of_each(frame: pl.DataFrame, estimates: pl.DataFrame, by: list[str]) -> NDArray[np.float64]:
    """Return the estimate of each row's group, 0 where it has none."""
    found = frame.select(by).join(estimates, on=by, how="left", maintain_order="left")["propensity"]
    return np.asarray(found.fill_null(0.0).to_numpy(), dtype=np.float64)


def _shown_share(frame: pl.DataFrame, train: pl.DataFrame, config: Config) -> NDArray[np.float64]:
    import polars as pl

    segment, requests = list(config.segment), pl.col(str(config.request)).n_unique()
    shown = train.group_by([*segment, config.item]).agg(shown=requests)
    if segment:
        both = shown.join(train.group_by(segment).agg(all=requests), on=segment)
    else:
        both = shown.with_columns(all=pl.lit(train[str(config.request)].n_unique()))
    return _of_each(frame, both.with_columns(propensity=pl.col("shown") / pl.col("all")), [*segment, config.item])


def _popularity(frame: pl.DataFrame, train: pl.DataFrame, config: Config) -> NDArray[np.float64]:
    import polars as pl

    segment = list(config.segment)
    counts = train.group_by([*segment, config.item]).agg(positives=pl.col(str(config.feedback)).cast(pl.Float64).sum())
    most = pl.col("positives").max().over(segment) if segment else pl.col("positives").max()
    share = (pl.col("positives") / most).fill_nan(0.0) ** config.power
    return _of_each(frame, counts.with_columns(propensity=share), [*segment, config.item])


def _position(frame: pl.DataFrame, train: pl.DataFrame, config: Config) -> NDArray[np.float64]:
    """A click is a place that is looked at and an item, in its segment, that is liked: maximum likelihood by EM."""
    import polars as pl

    place, group = str(config.position), [*config.segment, config.item]
    cells = train.group_by([*group, place]).agg(
        rows=pl.len().cast(pl.Float64), clicks=pl.col(str(config.feedback)).cast(pl.Float64).sum()
    )
    places = cells[place].unique().sort().to_numpy()
    at = np.searchsorted(places, cells[place].to_numpy())
    item = cells.select(pl.struct(group).rank("dense") - 1).to_series().to_numpy().astype(np.int64)
    if len(places) > 1 and np.bincount(item).max() < 2:
        raise BadInputError(
            f"every item stands in one place of {place!r} only, so nothing tells what a place does: use another method"
        )
    looked = examined(at, item, cells["rows"].to_numpy(), cells["clicks"].to_numpy())
    nearest = np.clip(np.searchsorted(places, frame[place].to_numpy(), side="right") - 1, 0, len(places) - 1)
    return looked[nearest]


def examined(
    at: NDArray[np.int64], item: NDArray[np.int64], rows: NDArray[np.float64], clicks: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``[places]`` chances that a place is looked at, 1 for the best (Wang et al., WSDM 2018, without features).

    Args:
        at: ``[cells]`` place of a cell of rows.
        item: ``[cells]`` its item.
        rows: ``[cells]`` how many rows it has.
        clicks: ``[cells]`` how many of them were clicked.
    """
    all_at, all_of = np.bincount(at, rows), np.bincount(item, rows)
    look = np.bincount(at, clicks) / all_at
    look, like = look / max(float(look.max()), 1e-9), np.bincount(item, clicks) / all_of
    for _ in range(ITERATIONS):
        both = look[at] * like[item]
        left = (rows - clicks) / np.maximum(1 - both, 1e-9)
        before = look
        look = np.bincount(at, clicks + left * look[at] * (1 - like[item])) / all_at
        like = np.bincount(item, clicks + left * like[item] * (1 - before[at])) / all_of
        if np.abs(look - before).max() < CLOSE:
            break
    return np.asarray(look / max(float(look.max()), 1e-9))
