"""What would the ranker have predicted for the items that were not shown? Rows × candidates through the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.judge.simulate_policy.estimators import Floats, Integers
from components.platform.errors import BadInputError
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel

LARGEST = 200_000_000
"""Rows × candidates held at a time: 1.6 GB."""
CHUNK = 65_536
"""Rows × candidates scored at a time."""


@dataclass(frozen=True)
class Candidates:
    """The K items that a log shows in a group of rows."""

    items: pa.Array
    """Their ids, sorted."""
    log: pa.Table
    """Rows of the log, judged or not."""
    of_log: Integers
    """int64, index of the item of each of these rows."""
    shown: Integers
    """int64, index of the item of each judged row."""

    @property
    def first(self) -> Integers:
        """One row of the log for each item, int64 ``[K]``."""
        return np.unique(self.of_log, return_index=True)[1].astype(np.int64)


def candidates_of(judged: pa.Table, log: pa.Table, item: str) -> Candidates:
    """Return the items of the log.

    Raises:
        BadInputError: judged rows × items would not fit into memory.
    """
    column = log[item].combine_chunks()
    items = pc.unique(column)
    items = items.take(pc.sort_indices(items))
    if judged.num_rows * len(items) > LARGEST:
        raise BadInputError(
            f"{judged.num_rows:,} rows with {len(items):,} candidates each do not fit into memory: narrow the window, "
            "or name the column with candidates of its own in candidates_per"
        )
    of_log, shown = (
        np.asarray(pc.index_in(part[item].combine_chunks(), value_set=items).to_numpy(), dtype=np.int64)
        for part in (log, judged)
    )
    return Candidates(items=items, log=log, of_log=of_log, shown=shown)


def predict(
    model: ServedModel,
    table: pa.Table,
    candidates: Candidates,
    reward: str,
    context: Collection[str],
    progress: Callable[[str], None],
) -> Floats:
    """Return the predicted reward of every candidate in every row's context, float64 ``[rows, K]``.

    Raises:
        BadInputError: a feature's value for another item is not known.
    """
    columns = [name for name in model.encoder.columns if name in table.column_names]
    moved = item_columns(model, columns, context)
    for name in moved:
        _check_constant(name, candidates)
    own = table.select(columns)
    of_items = candidates.log.select(moved).take(pa.array(candidates.first))
    count, rows = len(candidates.items), table.num_rows
    step = max(1, CHUNK // count)
    parts = []
    for start in range(0, rows, step):
        part = own.slice(start, step)
        repeated = part.take(pa.array(np.repeat(np.arange(part.num_rows), count)))
        tiled = of_items.take(pa.array(np.tile(np.arange(count), part.num_rows)))
        for name in moved:
            repeated = repeated.set_column(repeated.column_names.index(name), name, tiled[name])
        parts.append(answer(model, repeated).tasks[reward].reshape(-1, count))
        progress(f"{min(start + step, rows):,} of {rows:,} impressions scored with {count} candidates")
    return np.concatenate(parts)


def item_columns(model: ServedModel, columns: Collection[str], context: Collection[str]) -> list[str]:
    """Return the features that change with the item.

    Raises:
        BadInputError: a feature describes neither user nor item and is not said to belong to the request.
    """
    schema = model.contract.schema_
    request = {*context, schema.declaration.time, *([schema.declaration.domain] if schema.declaration.domain else [])}
    for name in columns:
        if name not in schema.sides and name not in request:
            raise BadInputError(
                f"feature {name!r} of the ranker describes neither the user nor the item: name it in context when it "
                "would be the same had another item been shown, or train without it"
            )
    return [name for name in columns if schema.sides.get(name) == "item"]


def _check_constant(name: str, candidates: Candidates) -> None:
    """Raise unless every row of an item has the same value in the column."""
    codes = _codes(candidates.log[name].combine_chunks())
    changed = codes != codes[candidates.first][candidates.of_log]
    if changed.any():
        item = candidates.items[int(candidates.of_log[changed][0])].as_py()
        raise BadInputError(
            f"feature {name!r} of item {item!r} changes within the log, so its value is unknown where another item was "
            "shown: use a feature service with attributes of items only, or drop it"
        )


def _codes(column: pa.Array) -> Integers:
    """Return equal numbers for equal values; lists are compared whole."""
    import polars as pl

    series = pl.Series(pl.from_arrow(column))
    if isinstance(series.dtype, pl.List):
        series = series.list.eval(pl.element().cast(pl.String)).list.join("\x1f")
    return series.rank("dense").fill_null(0).to_numpy().astype(np.int64)
