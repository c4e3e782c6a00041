"""Around which mean and on which scale does a number lie? Learned so that no sentinel rules it.

Logs write "unknown" as −1, −999, 9999, the largest integer or 1e30. One such value among thousands moves mean and
standard deviation so far that all others become the same number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
FAR = 8.0
"""A value further from the bulk than this many times the bulk's width takes no part in mean and scale."""
_FEW, _SHARE = 3, 0.02
"""So many distinct values, or this share of them, may lie outside the bulk."""


def moments(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation of the values that are not far away from the others.

    Args:
        values: float64, in any order; what is not finite is left out.

    Returns:
        Mean and scale; 0 and 1 without values, scale 1 where they are constant.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = fences(finite)
    kept = finite[(finite >= low) & (finite <= high)]
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(kept.mean()), float(kept.std())
    if not math.isfinite(mean):
        return 0.0, 1.0
    # A constant has a tiny spread of rounding errors only; dividing by it would blow up.
    return mean, scale if scale > 1e-12 * max(1.0, abs(mean)) and math.isfinite(scale) else 1.0


def fences(values: Floats) -> tuple[float, float]:
    """Return the smallest and the largest value that may take part in mean and scale.

    The bulk is the shortest interval with nearly all distinct values: a sentinel is one value however many rows hold
    it, while the tail of a skewed number has many and stays.
    """
    distinct = np.unique(values)
    outside = max(min(_FEW, (distinct.size - 1) // 2), int(distinct.size * _SHARE))
    if not outside:
        return float(distinct[0]), float(distinct[-1])
    with np.errstate(over="ignore"):
        widths = distinct[distinct.size - 1 - outside :] - distinct[: outside + 1]
        start = int(np.argmin(widths))
        reach = FAR * float(widths[start])
    return float(distinct[start]) - reach, float(distinct[start + distinct.size - 1 - outside]) + reach
