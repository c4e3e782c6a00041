"""Which rows train, which choose the epoch and which test? Decided by time or by a seeded shuffle."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from components.data.build_training_set.config import Split
from components.data.training_set import SPLITS, SplitName
from components.platform.errors import BadInputError


def split_rows(times: pl.Series, split: Split) -> dict[SplitName, np.ndarray[Any, Any]]:
    """Return the row numbers of each split, ascending.

    Returns:
        int64 ``[rows]`` per split; together every row once.

    Raises:
        BadInputError: a split would be empty.
    """
    rows = len(times)
    if split.by == "random":
        cuts = [round(rows * split.train), round(rows * (split.train + split.validation))]
        order = np.random.default_rng(split.seed).permutation(rows)
    else:
        cuts = _dated_cuts(times, split) or _time_cuts(times, split)
        order = np.arange(rows)
    if not 0 < cuts[0] < cuts[1] < rows:
        raise BadInputError(
            f"{rows} rows cannot be split into {split.train:g} / {split.validation:g} / {split.test:g}: one part would "
            "be empty; widen the window or change the shares"
        )
    return {name: np.sort(part) for name, part in zip(SPLITS, np.split(order, cuts), strict=True)}


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


def trained_until(times: pl.Series, parts: dict[SplitName, np.ndarray[Any, Any]], split: Split) -> Any:
    """Return a time that every row used to fit or to select the model is earlier than."""
    if split.by == "time":
        return times[int(parts["test"][0])]
    newest = max(times[int(parts["train"][-1])], times[int(parts["validation"][-1])])
    return newest + timedelta(microseconds=1)
