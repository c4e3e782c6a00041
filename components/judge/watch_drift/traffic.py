"""Is there as much traffic as on the same weekday of earlier weeks? Counts of days, which vary by more than chance.

Counts are compared as logarithms, so that half as much is as far as twice as much. How far a day usually lies from
others of its weekday is learned from all weekdays together, and is never taken to be less than a Poisson count's.
Earlier days without a row teach nothing: they lie before a log began, or in an outage, and would make the next outage
look usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 2
"""Earlier days of the same weekday that a day must have."""


@dataclass(frozen=True)
class Usual:
    """What a count is compared with."""

    expected: float
    """Geometric mean of the earlier counts of the same weekday."""
    difference: float
    """ln(count / expected)."""
    error: float
    """Standard deviation of such a difference on a day like the others."""
    freedom: float
    """Degrees of freedom of the error."""


def usual(counts: Sequence[int], season: int) -> Usual | None:
    """Return how the last count compares with earlier ones of the same weekday, None where they are too few.

    Args:
        counts: of days in order, the last is the one that is judged.
        season: days after which a weekday comes again.
    """
    seen = np.asarray(counts, dtype=np.float64)
    logs, place, known = np.log(seen + 0.5), np.arange(seen.size) % season, seen > 0
    today, known[-1] = logs[-1], False
    own = logs[known & (place == place[-1])]
    if own.size < LEAST:
        return None
    squares, freedom = 0.0, 0
    for weekday in range(season):
        same = logs[known & (place == weekday)]
        if same.size > 1:
            squares += float(np.square(same - same.mean()).sum())
            freedom += same.size - 1
    expected = float(own.mean())
    variance = max(squares / freedom, float(np.exp(-expected)))
    error = float(np.sqrt(variance * (1 + 1 / own.size)))
    return Usual(float(np.exp(expected)), float(today - expected), error, float(freedom))
