"""How sure is a figure of rows that hang together? The rows of one user count as one draw, not as many.

Every figure here is, near enough, a sum of influences of rows, so its variance is the sum of the squared sums per user
(the linearised, cluster-robust variance). No resampling, and the same rows in any order give the same bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.ground.errors import BadInputError
from registry.metrics.weighted import Floats, Integers, group_codes, sums, user_aucs


@dataclass(frozen=True)
class Clusters:
    """Which rows belong together."""

    codes: Integers
    """int64 ``[rows]`` in ``[0, size)``."""
    size: int
    """Number of users."""

    @classmethod
    def of(cls, users: ArrayLike) -> Clusters:
        """Return the clusters of ``[rows]`` ids of users."""
        ids = np.asarray(users)
        return cls(*group_codes(ids, ids.size))

    def where(self, kept: NDArray[np.bool_]) -> Clusters:
        """Return the clusters of some of the rows."""
        return Clusters.of(self.codes[kept])

    @cached_property
    def shares(self) -> Floats:
        """Share of the rows that each user has, float64 ``[size]``."""
        return np.bincount(self.codes, minlength=self.size) / max(1, self.codes.size)

    @cached_property
    def equivalent(self) -> float:
        """How many equally active users would tell as much, 1 / Σ share²: one who has half of the rows makes it few."""
        return float(1 / np.square(self.shares).sum()) if self.codes.size else 0.0

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a variance of these users."""
        return max(self.equivalent - 1, 1.0)

    @cached_property
    def inflation(self) -> float:
        """What a sum of squares is divided by its expectation with: G / (G − 1) of G equally active users.

        A user's own rows pull the mean towards them, the more so the more of the rows they are.
        """
        squares = float(np.square(self.shares).sum())
        kept = 1 - 2 * float((self.shares**3).sum()) / squares + squares if squares else 0.0
        # Of one user alone there is no sum to correct, and rounding must not be made large.
        return 1 / kept if kept > 1e-9 else 1.0

    def error(self, influence: Floats) -> float:
        """Return the standard error of a figure, by the influence of each row on it, float64 ``[rows]``."""
        per_user = sums(self.codes, self.size, influence)
        return float(np.sqrt(self.inflation * np.square(per_user).sum()))


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is."""

    value: float
    error: float
    """Standard error."""


def share_of(flags: ArrayLike, clusters: Clusters) -> Estimate:
    """Return the share of rows with a flag.

    Its error is never below that of independent rows: where no user has a flag there is no variance to see.
    """
    hit = np.asarray(flags, dtype=np.float64)
    value = float(hit.mean())
    likely = (hit.sum() + 1) / (hit.size + 2)
    independent = float(np.sqrt(likely * (1 - likely) / hit.size))
    return Estimate(value, max(clusters.error((hit - value) / hit.size), independent))


def mean_of(values: ArrayLike, clusters: Clusters) -> Estimate:
    """Return the mean of a number."""
    numbers = np.asarray(values, dtype=np.float64)
    value = float(np.sort(numbers).mean())
    return Estimate(value, clusters.error((numbers - value) / numbers.size))


def log_ratio(above: ArrayLike, below: ArrayLike, clusters: Clusters) -> Estimate | None:
    """Return ln(Σ above / Σ below), None where either sum is not positive."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (above, below))
    total, base = float(np.sort(a).sum()), float(np.sort(b).sum())
    if total <= 0 or base <= 0:
        return None
    return Estimate(float(np.log(total / base)), clusters.error(a / total - b / base))


def auc_of(labels: ArrayLike, scores: ArrayLike, clusters: Clusters) -> Estimate | None:
    """Return the AUC with the error that users leave it (Obuchowski, Biometrics 1997), None of one class.

    Args:
        labels: ``[rows]``, 0 or 1.
        scores: ``[rows]``.
        clusters: users of the rows.
    """
    y, s = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    positives, negatives = np.sort(s[y]), np.sort(s[~y])
    if not positives.size or not negatives.size:
        return None
    component = np.empty(s.size)
    component[y] = _below(negatives, s[y])  # share of the negatives that a positive beats
    component[~y] = 1 - _below(positives, s[~y])  # share of the positives that beat a negative
    value = float(np.sort(component[y]).mean())
    influence = (component - value) / np.where(y, positives.size, negatives.size)
    return Estimate(value, clusters.error(influence))


def gauc_of(labels: ArrayLike, scores: ArrayLike, clusters: Clusters) -> Estimate | None:
    """Return the mean of the users' own AUCs weighted by their rows, None where no user has both classes."""
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    total, mass = user_aucs(y, s, clusters.codes, clusters.size)
    if not mass.sum():
        return None
    value = float(total.sum() / mass.sum())
    per_user = (total - value * mass) / mass.sum()
    return Estimate(value, float(np.sqrt(clusters.inflation * np.square(per_user).sum())))


def beyond(difference: float, error: float, limit: float, freedom: float, *, both: bool) -> float:
    """Return how likely a difference this far beyond a limit is where the true one lies within it.

    Args:
        difference: what was seen, the harmful direction positive.
        error: its standard error.
        limit: the largest difference that nobody minds, not negative.
        freedom: degrees of freedom of the error.
        both: whether a difference below −limit is harmful too.

    Raises:
        BadInputError: the error is no number.
    """
    from scipy.special import stdtr

    if not np.isfinite(error):
        raise BadInputError("a standard error is no number: look at the rows that were judged")
    seen = abs(difference) if both else difference
    if error == 0:
        return 0.0 if seen > limit else 1.0
    tail = float(stdtr(freedom, (limit - seen) / error))
    return min(1.0, tail + float(stdtr(freedom, -(limit + seen) / error))) if both else tail


def _below(others: NDArray[Any], values: NDArray[Any]) -> Floats:
    """Return the share of sorted `others` that lies below each value, a tie counting one half."""
    left, right = (np.searchsorted(others, values, side=side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * others.size), dtype=np.float64)
