"""What do boosted trees see of a row? One number per feature, from the same raw columns that the encoder reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from features.encoding.encoder import Encoder
from features.encoding.fitted import NUMBERS, FittedField

FEW = 1024
"""A feature with at most so many values in training is a category; with more it is told by how frequent it is."""
Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Columns:
    """The splits as matrices."""

    names: tuple[str, ...]
    categories: tuple[int, ...]
    """Positions of the columns that are categories."""
    values: dict[str, Matrix]
    """By split, float64 ``[rows, columns]``; NaN where a value is missing or was never seen."""


def columns_of(encoder: Encoder, splits: Mapping[str, pa.Table]) -> Columns:
    """Return what trees see of each split; categories and frequencies are those of the split ``train``.

    A number is itself, a value with a vocabulary a category or its frequency. A list becomes its length and its
    newest value, the times of a history the seconds since its newest event, a vector its numbers.
    """
    numbers: dict[str, dict[str, Matrix]] = {name: {} for name in splits}
    words: dict[str, dict[str, pl.Series]] = {name: {} for name in splits}
    for name, table in splits.items():
        frame = pl.DataFrame(pl.from_arrow(table.select([field.name for field in encoder.fitted])))
        for field in encoder.fitted:
            _spread(field, frame[field.name], numbers[name], words[name])
        numbers[name] |= _encoded(encoder, table)
    categories = set()
    for name in sorted(words["train"]):
        values = {split: words[split][name].rename("value") for split in splits}
        counts = values["train"].drop_nulls().value_counts(name="seen")
        # The more frequent value has the smaller code; ties are settled by the value itself.
        counts = counts.sort("seen", pl.col("value").cast(pl.String), descending=[True, False])
        if len(counts) <= FEW:
            categories.add(name)
            counts = counts.with_row_index("code")
        else:
            counts = counts.with_columns(code="seen")
        codes = counts.select("value", pl.col("code").cast(pl.Float64))
        for split, column in values.items():
            found = column.to_frame().join(codes, on="value", how="left", maintain_order="left")
            numbers[split][name] = found["code"].to_numpy()
    names = tuple(sorted(numbers["train"]))
    return Columns(
        names=names,
        categories=tuple(place for place, name in enumerate(names) if name in categories),
        values={split: np.column_stack([numbers[split][name] for name in names]) for split in splits},
    )


def _spread(field: FittedField, column: pl.Series, numbers: dict[str, Matrix], words: dict[str, pl.Series]) -> None:
    """Put what trees see of one feature into `numbers` or, where values have no order, into `words`."""
    if field.kind in NUMBERS:
        numbers[field.name] = _floats(column)
    elif field.kind in ("vocabulary", "hash"):
        words[field.name] = column
    elif field.kind in ("sequence", "bag"):
        numbers[f"{field.name}_length"] = _floats(column.list.len())
        words[f"{field.name}_first"] = _newest(field, column)


def _newest(field: FittedField, column: pl.Series) -> pl.Series:
    return column.list.last() if field.order == "oldest_first" else column.list.first()


def _encoded(encoder: Encoder, table: pa.Table) -> dict[str, Matrix]:
    """Return the columns that only the encoder can compute."""
    chosen = tuple(field for field in encoder.fitted if field.kind in ("elapsed", "vector"))
    arrays = Encoder(fitted=chosen, vocabularies={}).encode(table)
    found: dict[str, Matrix] = {}
    for field in chosen:
        values = arrays[field.name].astype(np.float64)
        if field.kind == "elapsed":
            found[f"{field.name}_first"] = np.where(values[:, 0] < 0, np.nan, values[:, 0])
        else:
            found |= {f"{field.name}_{place}": values[:, place] for place in range(values.shape[1])}
    return found


def _floats(column: pl.Series) -> Matrix:
    return column.cast(pl.Float64).to_numpy()
