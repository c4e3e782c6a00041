"""Do the values that a model reads lie as they did? Each column of a day against its spread in the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.judge.watch_drift.clusters import Clusters, beyond, share_of
from components.judge.watch_drift.config import Limits
from components.judge.watch_drift.report import Bins, Cell
from components.judge.watch_drift.shares import Size, moved
from features.ground.errors import BadInputError
from registry.serving.evidence.baseline import LONGEST, Categories, Lists, Spread

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[Any]


@dataclass(frozen=True)
class Coded:
    """The values of a column as bins of a baseline."""

    expected: Array
    """float64 ``[bins]`` shares of the baseline, which sum to 1."""
    codes: Array
    """int64 bin of each row that has a value."""
    there: Array
    """bool ``[rows]``: which rows those are."""
    names: tuple[str, ...]
    """What each bin holds, in words."""


def coded(name: str, spread: Spread, column: pa.ChunkedArray) -> Coded | None:
    """Return a column in the bins of its spread, None where the baseline had no value.

    Raises:
        BadInputError: the column is of another kind than in the baseline.
    """
    import pyarrow as pa

    expected = np.array([*spread.shares, spread.rest] if isinstance(spread, Categories) else spread.shares)
    if not expected.sum():
        return None
    try:
        if isinstance(spread, Categories):
            return _of_categories(spread, column)
        values, there = (_lengths if isinstance(spread, Lists) else _numbers)(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInputError(
            f"column {name!r} is {column.type} now, and was a {spread.kind} when the version was judged: mend the "
            "column, or evaluate and register the version again"
        ) from error
    bounds = [f"{edge:.4g}" for edge in spread.edges]
    names = [f"below {bounds[0]}" if bounds else "all", *(f"from {edge}" for edge in bounds)]
    codes = np.searchsorted(spread.edges, values, side="right")
    return Coded(expected / expected.sum(), codes, there, tuple(names))


def _lengths(column: pa.ChunkedArray) -> tuple[Array, Array]:
    import pyarrow as pa
    import pyarrow.compute as pc

    there = np.asarray(column.is_valid().to_numpy(), dtype=bool)
    if pa.types.is_null(column.type):  # a service that knows no value of a column does not know its type
        return np.zeros(0), there
    return pc.list_value_length(column).drop_null().to_numpy().astype(np.float64), there


def _numbers(column: pa.ChunkedArray) -> tuple[Array, Array]:
    import pyarrow as pa
    import pyarrow.compute as pc

    times = pa.types.is_timestamp(column.type)
    numbers = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()) if times else column
    floats = pc.fill_null(numbers.cast(pa.float64(), safe=False), np.nan).to_numpy() / (1e6 if times else 1)
    there = np.isfinite(floats)
    return floats[there], there


def _of_categories(spread: Categories, column: pa.ChunkedArray) -> Coded:
    import pyarrow as pa
    import pyarrow.compute as pc

    shares: dict[str, float] = {}
    for value, share in zip(spread.values, spread.shares, strict=True):  # long ones were cut, and may be equal now
        shares[value] = shares.get(value, 0.0) + share
    texts = pc.utf8_slice_codeunits(column.cast(pa.string()).drop_null(), 0, LONGEST)
    codes = pc.fill_null(pc.index_in(texts, value_set=pa.array(list(shares), pa.string())), len(shares))
    expected = np.array([*shares.values(), spread.rest])
    return Coded(
        expected / expected.sum(),
        np.asarray(codes.to_numpy(), dtype=np.int64),
        np.asarray(column.is_valid().to_numpy(), dtype=bool),
        (*shares, "any other"),
    )


def field_cells(
    table: pa.Table,
    spreads: Mapping[str, Spread],
    base: Size,
    clusters: Clusters,
    unknown: Mapping[str, Array],
    limits: Limits,
    still: frozenset[str],
) -> Iterator[Cell]:
    """Yield the cells of every field that the rows have.

    Args:
        table: raw rows of a day.
        spreads: by field, how it lay in the baseline.
        base: rows and users of the baseline.
        clusters: users of the rows.
        unknown: by field that has a vocabulary, bool ``[rows]``.
        limits: the largest changes that nobody minds.
        still: fields whose values are not compared, only whether they are there: who comes is another every day.
    """
    for name, spread in spreads.items():
        if name not in table.column_names:
            continue
        found = coded(name, spread, table[name])
        gone = ~found.there if found is not None else ~np.asarray(table[name].is_valid().to_numpy(), dtype=bool)
        if limits.missing is not None:
            yield _grown("missing", name, gone, spread.missing, base, clusters, limits.missing)
            if name in unknown:  # a baseline of earlier releases says nothing where it saw none
                before = getattr(spread, "unknown", None) or 0.0
                yield _grown("unknown", name, unknown[name], before, base, clusters, limits.missing)
        if limits.moved is not None and found is not None and found.codes.size and name not in still:
            yield _moved(name, found, base, clusters.where(found.there), limits.moved)


def _grown(check: Any, name: str, flags: Array, before: float, base: Size, clusters: Clusters, limit: float) -> Cell:
    share = share_of(flags, clusters)
    error = share.error * np.sqrt(1 + base.noise(clusters))
    change = share.value - before
    return Cell(
        check=check,
        of=name,
        rows=flags.size,
        now=share.value,
        before=before,
        change=change,
        limit=limit,
        chance=beyond(change, error, limit, clusters.freedom, both=False),
    )


def _moved(name: str, found: Coded, base: Size, clusters: Clusters, limit: float) -> Cell:
    move = moved(found.expected, base, found.codes, clusters)
    now = np.bincount(found.codes, minlength=found.expected.size) / found.codes.size
    return Cell(
        check="moved",
        of=name,
        rows=found.codes.size,
        now=move.psi,
        distance=move.distance,
        change=move.size,
        limit=limit,
        chance=move.chance,
        bins=Bins(names=found.names, before=tuple(found.expected.tolist()), now=tuple(now.tolist())),
    )
