"""Are features as they were served those that a join gives for the same moment? Two tables of the same rows, by key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.judge.watch_drift.clusters import Clusters, beyond, share_of
from components.judge.watch_drift.report import Cell, Check
from components.judge.watch_drift.rows import some_users

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from features.declaration import Declaration

Array = NDArray[Any]
RELATIVE, ABSOLUTE = 1e-5, 1e-6
"""Differences of two floats below which they are the same: an online store may keep float32."""
COMPARED = 20_000
"""Rows that are compared at most, about: lists are compared one by one."""
_AT = "__at"


@dataclass(frozen=True)
class Matched:
    """Rows that both tables hold."""

    places: Array
    """int64 places in the served rows."""
    differ: dict[str, Array]
    """By feature bool ``[places]``: which of them hold another value."""


def matched(served: pa.Table, joined: pa.Table, roles: Declaration, features: Iterable[str]) -> Matched:
    """Return which rows have the same user, item and time, and which of their features differ.

    Of rows with the same key the first of either table count, and of many rows about `COMPARED`, all of a user or none.

    Args:
        served: rows with features as they were used.
        joined: rows with features as a join gives them.
        roles: columns of the keys.
        features: columns that are compared; one that either table lacks is left out.
    """
    import polars as pl
    import pyarrow as pa

    names = [name for name in features if name in served.column_names and name in joined.column_names]
    keys = ("__user", "__item", "__moment")

    def keyed(table: pa.Table) -> pl.DataFrame:
        id_of = [table[name].cast(pa.string()) for name in (roles.user, roles.item)]
        moment = table[roles.time].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        columns = dict(zip(keys, (*id_of, moment), strict=True)) | {name: table[name] for name in names}
        return pl.DataFrame(pa.table(columns)).with_row_index(_AT)

    some = (
        keyed(served)
        .filter(pl.Series(some_users(served[roles.user], COMPARED)))
        .unique(keys, keep="first", maintain_order=True)
    )
    both = some.join(
        keyed(joined).unique(keys, keep="first", maintain_order=True),
        on=keys,
        how="inner",
        suffix="__joined",
        maintain_order="left",
    )
    differ = {name: _differ(both, name) for name in names}
    return Matched(both[_AT].to_numpy().astype(np.int64), differ)


def joined_cells(found: Matched, clusters: Clusters, limit: float) -> Iterator[Cell]:
    """Yield by feature in which share of the matched rows it differs; `clusters` are the users of these rows."""
    yield from differing("joined", found.differ, clusters, limit)


def differing(check: Check, differ: Mapping[str, Array], clusters: Clusters, limit: float) -> Iterator[Cell]:
    """Yield by name which share of the same rows is another one on two ways; no drift is 0.

    Args:
        check: what the cells are of.
        differ: by name, bool ``[rows]``, which rows differ.
        clusters: users of these rows.
        limit: the largest share that nobody minds.
    """
    for name, flags in differ.items():
        share = share_of(flags, clusters)
        yield Cell(
            check=check,
            of=name,
            rows=flags.size,
            now=share.value,
            change=share.value,
            limit=limit,
            chance=beyond(share.value, share.error, limit, clusters.freedom, both=False),
        )


def _differ(both: pl.DataFrame, name: str) -> Array:
    import polars as pl

    one, other = both[name], both[f"{name}__joined"]
    if one.dtype.is_float() or other.dtype.is_float():
        a, b = (side.cast(pl.Float64).fill_null(np.nan).to_numpy() for side in (one, other))
        same = (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= ABSOLUTE + RELATIVE * np.abs(b))
        return np.asarray(~same)
    if one.dtype.is_nested():
        pairs = zip(one.to_list(), other.to_list(), strict=True)
        return np.array([_rounded(a) != _rounded(b) for a, b in pairs], dtype=bool)
    if one.dtype != other.dtype:  # as where one side keeps small integers
        one, other = one.cast(pl.String), other.cast(pl.String)
    return np.asarray(one.ne_missing(other).to_numpy())


def _rounded(row: list[Any] | None) -> list[Any] | None:
    """Return a list whose floats are equal where five digits are, and equal to themselves where they are no numbers."""
    if row is None:
        return None
    return [float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else str(value) for value in row]
