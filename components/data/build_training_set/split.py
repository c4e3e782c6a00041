"""Which rows train, which choose the epoch and which test? Decided by time or by a seeded shuffle."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from components.data.build_training_set.config import Split
from components.data.training_set import SPLITS, SplitName
from components.platform.errors import BadInputError
from features.joins.stored_rows import StoredRows
from features.rules.meets import holds
from features.rules.parse import parse

Rows = NDArray[np.int64]


def request_ends(frame: pl.DataFrame, time: str, request: str | None) -> pl.Series:
    """Return by row the time by which a split by time places it: its own, or that of its request's last row."""
    return frame[time] if request is None else frame.select(pl.col(time).max().over(request)).to_series()


def split_rows(ends: pl.Series, split: Split, requests: pl.Series | None = None) -> dict[SplitName, Rows]:
    """Return the row numbers of each split, ascending.

    Args:
        ends: by row, of `request_ends`; ascending where there are no requests.
        split: shares or moments, and how to divide.
        requests: request of each row, which is never divided; None divides rows.

    Returns:
        int64 ``[rows]`` per split; together every row once.

    Raises:
        BadInputError: a split would be empty.
    """
    rows = len(ends)
    if split.by == "random":
        order, cuts = _shuffled(rows, split, requests)
    else:
        order, times = np.arange(rows), ends
        if requests is not None:
            order = ends.arg_sort().to_numpy().astype(np.int64)
            times = ends.gather(order)
        cuts = _dated_cuts(times, split) or _time_cuts(times, split)
    if not 0 < cuts[0] < cuts[1] < rows:
        raise BadInputError(
            f"{rows} rows cannot be split into {split.train:g} / {split.validation:g} / {split.test:g}: one part would "
            "be empty; widen the window or change the shares"
        )
    return {name: np.sort(part) for name, part in zip(SPLITS, np.split(order, cuts), strict=True)}


def kept_apart(
    parts: dict[SplitName, Rows], rows: pl.DataFrame | StoredRows, split: Split, request: str | None
) -> dict[SplitName, Rows]:
    """Return the splits with the rows of `test_where` in test alone, and in test no others.

    Raises:
        BadInputError: a split would be empty, a request holds rows of both kinds, or the rule misreads a column.
    """
    if split.test_where is None:
        return parts
    named = list(dict.fromkeys([*parse(split.test_where).columns, *([request] if request else [])]))
    frame = rows.select(named) if isinstance(rows, pl.DataFrame) else rows.frame(named)
    met = frame.select(holds(parse(split.test_where), frame.schema, "the table").alias("__met")).to_series()
    if request is not None and len(frame.select(request, met).unique()) > frame[request].n_unique():
        raise BadInputError(f"test_where {split.test_where!r} divides a request: name a condition of whole requests")
    kept = {name: part[met.to_numpy()[part] == (name == "test")] for name, part in parts.items()}
    if empty := [name for name, rows in kept.items() if not len(rows)]:
        raise BadInputError(
            f"test_where {split.test_where!r} leaves the {empty[0]} split without rows ({met.sum():,} of {len(met):,} "
            "rows meet it): ingest rows of both kinds, or move the split"
        )
    return kept


def _shuffled(rows: int, split: Split, requests: pl.Series | None) -> tuple[Rows, list[int]]:
    """Return row numbers in the order of a shuffle, requests together, and where validation and test begin."""
    shares = (split.train, split.train + split.validation)
    rng = np.random.default_rng(split.seed)
    if requests is None:
        return rng.permutation(rows), [round(rows * share) for share in shares]
    codes = (requests.rank("dense") - 1).to_numpy().astype(np.int64)
    place = rng.permutation(int(codes.max()) + 1)[codes]
    starts = np.cumsum(np.bincount(place))
    return np.argsort(place, kind="stable"), [int(starts[np.argmin(np.abs(starts - rows * share))]) for share in shares]


def _dated_cuts(times: pl.Series, split: Split) -> list[int] | None:
    """Return the first row of validation and of test at the config's own moments, or None without them."""
    if split.validation_from is None or split.test_from is None:
        return None
    cuts = [int((times < moment).sum()) for moment in (split.validation_from, split.test_from)]
    sizes = (cuts[0], cuts[1] - cuts[0], len(times) - cuts[1])
    for name, size in zip(SPLITS, sizes, strict=True):
        if not size:
            raise BadInputError(
                f"the {name} split is empty: rows lie from {times[0]} to {times[-1]}, validation_from is "
                f"{split.validation_from} and test_from {split.test_from}; move them into that range"
            )
    return cuts


def _time_cuts(times: pl.Series, split: Split) -> list[int]:
    """Return the first row of validation and of test: starts of timestamps, nearest to the wanted shares."""
    starts = np.flatnonzero(np.concatenate(([True], times.to_numpy()[1:] != times.to_numpy()[:-1])))
    if len(starts) < 3:
        raise BadInputError(
            f"a split by time needs three distinct times, the {len(times)} rows have {len(starts)}: widen the window "
            "or split by random"
        )
    wanted = len(times) * np.array([split.train, split.train + split.validation])
    first = 1 + int(np.argmin(np.abs(starts[1:-1] - wanted[0])))
    second = first + 1 + int(np.argmin(np.abs(starts[first + 1 :] - wanted[1])))
    return [int(starts[first]), int(starts[second])]


def trained_until(ends: pl.Series, parts: dict[SplitName, Rows], split: Split) -> Any:
    """Return a time that every row used to fit or to select the model is earlier than.

    Args:
        ends: by row, of `request_ends`.
        parts: of `split_rows`.
        split: how they were divided.
    """
    if split.by == "time":
        return ends.gather(parts["test"]).min()
    used = np.concatenate([parts["train"], parts["validation"]])
    return cast("datetime", ends.gather(used).max()) + timedelta(microseconds=1)
