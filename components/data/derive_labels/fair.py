"""When is an amount large for a row's kind? When it exceeds most of its group, by the rows that groups were cut on.

The idea is known as duration-deconfounded quantiles: how long a video was watched is compared with how long videos of
about its duration are watched, so that neither long videos (watch time) nor short ones (share watched) come first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.platform.errors import BadInputError
from features.encoding.numbers import quantiles

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Cuts:
    """What a label is made with."""

    edges: Floats
    """``[G − 1]``, ascending: where a group ends and the next begins; a value on an edge belongs to the next."""
    amounts: Floats
    """``[G]``, the amount that decides in each group."""
    inclusive: NDArray[np.bool_]
    """``[G]``, whether just that amount is enough."""

    def groups(self, within: Floats) -> Integers:
        """Return int64 ``[rows]``, the group of each row."""
        return np.searchsorted(self.edges, within, side="right").astype(np.int64)

    def labels(self, amount: Floats, within: Floats) -> Integers:
        """Return int64 ``[rows]``, 0 or 1."""
        group = self.groups(within)
        cut = self.amounts[group]
        return ((amount > cut) | ((amount == cut) & self.inclusive[group])).astype(np.int64)


def mid_ranks(amount: Floats, among: Floats) -> Floats:
    """Return the share of `among` that is smaller than each amount, an equal one counting as a half.

    Args:
        amount: ``[rows]``.
        among: ``[n]``, ascending, n at least 1.
    """
    below, up_to = (np.searchsorted(among, amount, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(among)), dtype=np.float64)


def cuts_of(amount: Floats, within: Floats, edges: Floats, above: float) -> Cuts:
    """Return cuts such that a label is 1 where `mid_ranks` among the rows of its group exceeds `above`.

    Args:
        amount: ``[rows]`` to cut on.
        within: ``[rows]``.
        edges: ``[G − 1]``; no group may be empty.
        above: between 0 and 1.
    """
    group = np.searchsorted(edges, within, side="right")
    amounts, inclusive = np.empty(len(edges) + 1), np.empty(len(edges) + 1, dtype=bool)
    for place in range(len(edges) + 1):
        values = np.sort(amount[group == place])
        # The first amount of which those above it exceed enough; whether it does so itself depends on its ties.
        amounts[place] = values[np.searchsorted(np.arange(1, len(values) + 1) / len(values), above, side="right")]
        inclusive[place] = mid_ranks(amounts[place : place + 1], values)[0] > above
    return Cuts(edges, amounts, inclusive)


def edges_of(within: Floats, groups: int, min_group: int) -> Floats:
    """Return where groups of about equally many rows end, those of fewer than `min_group` joined to the next.

    Raises:
        BadInputError: fewer than two are left.
    """
    found = np.array(quantiles(within, groups))
    counts = np.bincount(np.searchsorted(found, within, side="right"), minlength=len(found) + 1)
    kept: list[float] = []
    held = 0
    for edge, count in zip(found, counts[:-1], strict=True):
        held += int(count)
        if held >= min_group:
            kept.append(float(edge))
            held = 0
    if kept and held + counts[-1] < min_group:
        kept.pop()
    if not kept:
        raise BadInputError(
            f"{len(within):,} rows with {len(np.unique(within)):,} values make no two groups of {min_group} rows: "
            "lower min_group, or learn from more rows"
        )
    return np.array(kept)
