"""Have values moved between bins? The shares of a day against those of a baseline, as a size and as a chance.

The size is the population stability index, Σ (q − p) ln(q / p), less what chance alone would give. The chance is that
of Pearson's Σ (q − p)² / p under no drift, with the design effect of users taken out to the second order (Rao and
Scott, Annals of Statistics 1984): where each row is a user of its own it is the plain chi-square test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.judge.watch_drift.clusters import Clusters
from registry.metrics.weighted import Floats, Integers

FEWEST = 5.0
"""Rows that a bin must hold on average on either side; bins of fewer are put together, as Cochran (1954) advises."""
NOTHING = 1e-12
"""What rounding leaves of zero."""


@dataclass(frozen=True)
class Size:
    """How many rows and users a baseline was made of."""

    rows: int
    users: int

    def noise(self, clusters: Clusters) -> float:
        """Return the variance of its shares over that of a day's.

        A baseline does not tell how its rows hang together. It is as sure as its rows or as its users make it,
        whichever is less.
        """
        rows = clusters.codes.size / max(1, self.rows)
        return max(rows, clusters.equivalent / max(1, self.users))


@dataclass(frozen=True)
class Move:
    """How far values moved."""

    psi: float
    """Population stability index, at least 0."""
    size: float
    """The same less what chance alone gives on average; below 0 where less moved than that."""
    distance: float
    """Total variation: the share of rows that would have to change their bin."""
    chance: float
    """How likely so much is without drift."""


def moved(expected: Floats, base: Size, codes: Integers, clusters: Clusters) -> Move:
    """Return how far the rows of a day moved between bins.

    Args:
        expected: float64 ``[bins]``, shares of the baseline, which sum to 1.
        base: what they were made of.
        codes: int64 ``[rows]``, the bin of each row of the day, at least one.
        clusters: users of these rows.
    """
    from scipy import sparse
    from scipy.special import fdtrc

    n = codes.size
    merged, p = _merged(expected, np.bincount(codes, minlength=expected.size) / n, min(n, base.rows))
    bins = merged[codes]
    counts = sparse.coo_array((np.ones(n), (clusters.codes, bins)), shape=(clusters.size, p.size)).tocsr()
    q = np.asarray(np.bincount(bins, minlength=p.size) / n, dtype=np.float64)
    # Σ_u (c_u − n_u q)(c_u − n_u q)ᵀ without a dense row per user.
    weighted = np.asarray(counts.T @ (clusters.shares * n))
    spread = (counts.T @ counts).toarray() - np.outer(weighted, q) - np.outer(q, weighted)
    spread += np.square(clusters.shares * n).sum() * np.outer(q, q)
    variance = spread * clusters.inflation * (1 + base.noise(clusters)) / n**2
    scaled = variance / np.sqrt(np.outer(p, p))
    mean, square = float(np.trace(scaled)), float(np.square(scaled).sum())
    distance, psi = float(np.abs(q - p).sum() / 2), _psi(p, q, n)
    if mean <= NOTHING:  # every user is like the whole, so there is no chance in it
        return Move(psi, psi, distance, 0.0 if distance > NOTHING else 1.0)
    pearson = float((np.square(q - p) / p).sum())
    return Move(psi, psi - mean, distance, float(fdtrc(mean**2 / square, clusters.freedom, pearson / mean)))


def ks(expected: Floats, codes: Integers) -> float:
    """Return the largest distance of the two distribution functions at the edges of ordered bins."""
    found = np.bincount(codes, minlength=expected.size) / max(1, codes.size)
    return float(np.abs(np.cumsum(found - expected)).max())


def _psi(p: Floats, q: Floats, rows: int) -> float:
    seen = np.maximum(q, 0.5 / rows)  # a bin that nobody is in any more
    return float(((seen - p) * np.log(seen / p)).sum())


def _merged(expected: Floats, found: Floats, rows: int) -> tuple[Integers, Floats]:
    """Return the new bin of each bin, int64 ``[bins]``, and what each new one should hold.

    Small bins become one. Where even that is small it joins the next larger one, unless the day has more there than its
    smallest size: a value that never was, or the other side of a constant, must not vanish among the others. It is
    then taken to have been as large as that, which is more than it was.
    """
    small = expected * rows < FEWEST
    merged = np.zeros(expected.size, dtype=np.int64)
    if small.all():
        return merged, np.ones(1)
    kept = np.flatnonzero(~small)
    if not small.any():
        return np.arange(expected.size), expected
    merged[kept] = np.arange(1, kept.size + 1)
    least, together = FEWEST / rows, float(expected[small].sum())
    if together >= least:
        return merged, np.array([together, *expected[kept]])
    if float(found[small].sum()) > least:
        return merged, np.array([least, *(expected[kept] * (1 - least) / (1 - together))])
    merged[kept] -= 1
    merged[small] = next_larger = int(np.argmin(expected[kept]))
    joined = expected[kept].copy()
    joined[next_larger] += together
    return merged, joined
