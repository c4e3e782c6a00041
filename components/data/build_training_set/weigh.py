"""How much does a row count in a loss? By a propensity or a number of its own, on average once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from components.data.build_training_set.config import Config, RowWeight
from components.data.training_set import SplitName
from components.platform.errors import BadInputError, ContractViolationError
from features.declaration import weight_name
from features.joins.stored_rows import StoredRows

Table = TypeVar("Table", pa.Table, StoredRows)
Rows = Mapping[SplitName, NDArray[np.int64]]


def row_weights(impressions: pl.DataFrame | StoredRows, config: Config, parts: Rows) -> dict[str, NDArray[np.float32]]:
    """Return by feedback float32 ``[rows]`` weights whose mean over the training split is 1.

    Raises:
        ContractViolationError: a weight is missing or below 0, or a propensity outside (0, 1].
        BadInputError: no training row counts.
    """
    return {
        name: _scaled(_raw(_columns(impressions, weight, name), weight, name), parts, name)
        for name, weight in config.weights.items()
    }


def _columns(impressions: pl.DataFrame | StoredRows, weight: RowWeight, feedback: str) -> pl.DataFrame:
    names = [weight.source, *([feedback] if weight.form == "positives" else [])]
    return impressions.select(names) if isinstance(impressions, pl.DataFrame) else impressions.frame(names)


def _raw(impressions: pl.DataFrame, weight: RowWeight, feedback: str) -> NDArray[np.float64]:
    values = impressions[weight.source].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    if weight.propensity is None:
        wrong, must = ~(np.isfinite(values) & (values >= 0)), "a number of at least 0"
    else:
        wrong, must = ~((values > 0) & (values <= 1)), "above 0 and at most 1"
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ContractViolationError(
            f"{int(wrong.sum())} impressions have a {weight.source!r} that is not {must} (row {row}: {values[row]:g}); "
            "add the rule to the suite of validate_data so that they go to quarantine"
        )
    if weight.propensity is None:
        return values
    inverse = 1 / np.maximum(values, weight.clip)
    if weight.form == "impressions":
        return inverse
    return np.where(impressions[feedback].cast(pl.Float64).to_numpy() == 1, inverse, 1.0)


def _scaled(values: NDArray[np.float64], parts: Rows, name: str) -> NDArray[np.float32]:
    mean = float(values[parts["train"]].mean())
    if mean == 0:
        raise BadInputError(f"every training row has weight 0 for {name!r}: nothing would be learned about it")
    return (values / mean).astype(np.float32)


def with_weights(table: Table, weights: Mapping[str, NDArray[np.float32]], rows: NDArray[np.int64]) -> Table:
    """Return a split with a column of weights per feedback that has them.

    Args:
        table: rows of the split.
        weights: of `row_weights`, of all rows.
        rows: which of them are the split's.

    Raises:
        BadInputError: a column has the name of one already.
    """
    for name, values in weights.items():
        column = weight_name(name)
        if column in table.column_names:
            raise BadInputError(f"a column is called {column!r}, as the weights of {name!r} are: rename it")
        table = table.append_column(column, pa.array(values[rows]))
    return table


def weight_notes(weights: Mapping[str, NDArray[Any]], parts: Rows) -> list[str]:
    """Return a line per feedback: as how many equal rows they count (Kish, 1965), and what the heaviest does."""
    notes = []
    for name, values in weights.items():
        train = values[parts["train"]].astype(np.float64)
        effective = train.sum() ** 2 / (train**2).sum()
        notes.append(
            f"{name}: {len(train):,} weighted training rows say as much as {effective:,.0f} equal ones; the heaviest "
            f"counts {train.max():.1f} times"
        )
    return notes
