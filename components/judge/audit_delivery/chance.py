"""How far from even is a fair delivery? The distribution of the variance when people are drawn blindly.

A finite audience is never exactly like those who were eligible. The variance of n people of G groups is half the sum
of absolute differences, which is what groups above their share have too much. Given which groups those are, it depends
on the number of their people alone, so that its distribution is a sum over the 2^G possibilities, each a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_EXACT, LARGEST = 6, 50_000
"""Groups, and people of an ad, up to which the distribution is summed; of more it is drawn, which costs less."""
DRAWS = 20_000
"""Fair deliveries behind a chance level that is drawn."""
WIDE = 8.0
"""Standard deviations around its mean that a group's count is followed: beyond lies less than 1e-14."""
NEAR = 1e-9
"""Variances this close are equal: they are sums of fractions."""


@dataclass(frozen=True)
class Chance:
    """The variance of a fair delivery."""

    values: Floats
    """``[k]``, ascending."""
    shares: Floats
    """``[k]``, how likely each is; they add up to 1."""
    exact: bool
    """Whether it was summed, not drawn."""

    @property
    def mean(self) -> float:
        """Mean variance."""
        return float(self.values @ self.shares)

    def limit(self, level: float) -> float:
        """Return the least variance that at least `level` of fair deliveries do not exceed."""
        place = int(np.searchsorted(np.cumsum(self.shares), level - 1e-12))
        return float(self.values[min(place, len(self.values) - 1)])

    def at_least(self, variance: float) -> float:
        """Return the share of fair deliveries with this variance or more."""
        return float(min(1.0, self.shares[self.values >= variance - NEAR].sum()))


def variance(delivered: Floats, eligible: Floats) -> Floats:
    """Return half the sum of absolute differences of shares, 0 to 1.

    Args:
        delivered: ``[…, G]`` counts or shares.
        eligible: ``[G]`` counts or shares.
    """
    shares = delivered / delivered.sum(axis=-1, keepdims=True)
    return np.asarray(np.abs(shares - eligible / eligible.sum()).sum(axis=-1) / 2)


def fair_people(people: int, eligible: Floats, finite: bool, rng: np.random.Generator) -> Chance:
    """Return the chance of so many people.

    Args:
        people: n, at least 1; at most all who are eligible where they are `finite`.
        eligible: ``[G]``, the people of each group, or their shares.
        finite: whether each is reached once at most: drawn without being put back, from so many.
        rng: for what is drawn.
    """
    if len(eligible) <= MOST_EXACT and people <= LARGEST:
        return _summed(people, eligible, finite)
    if finite:
        drawn = rng.multivariate_hypergeometric(eligible.astype(np.int64), people, size=DRAWS, method="marginals")
    else:
        drawn = rng.multinomial(people, eligible / eligible.sum(), size=DRAWS)
    return _of_draws(variance(drawn.astype(np.float64), eligible))


def fair_impressions(times: Integers, eligible: Floats, rng: np.random.Generator) -> Chance:
    """Return the chance of impressions that go to blindly drawn people, of whom each sees as many as somebody did.

    Args:
        times: ``[people]``, how often each saw the ad.
        eligible: ``[G]``, people or shares; they are drawn as from very many.
        rng: draws.
    """
    drawn = np.zeros((DRAWS, len(eligible)))
    for count, people in zip(*np.unique(times, return_counts=True), strict=True):
        drawn += count * rng.multinomial(people, eligible / eligible.sum(), size=DRAWS)
    return _of_draws(variance(drawn, eligible))


def _of_draws(variances: Floats) -> Chance:
    values, counts = np.unique(variances, return_counts=True)
    return Chance(values, counts / len(variances), exact=False)


def _summed(people: int, eligible: Floats, finite: bool) -> Chance:
    expected = people * eligible / eligible.sum()
    # By which groups are above their share: how likely so many of those, and so many of the others.
    states: list[tuple[float, Floats, int, Floats, int]] = [(0.0, np.ones(1), 0, np.ones(1), 0)]
    for group, size in zip(expected, eligible, strict=True):
        first, pmf = _counts(group, size, people, eligible.sum(), finite)
        cut = min(max(int(np.floor(group + NEAR)) + 1 - first, 0), len(pmf))  # the first count above the share
        below, above = pmf[:cut], pmf[cut:]
        parted = []
        for share, over, over_at, under, under_at in states:
            if below.size:
                parted.append((share, over, over_at, np.convolve(under, below), under_at + first))
            if above.size:
                parted.append((share + group, np.convolve(over, above), over_at + first + cut, under, under_at))
        states = parted
    values, shares = [], []
    for share, over, over_at, under, under_at in states:
        counts = over_at + np.arange(len(over))
        rest = people - counts - under_at
        fits = (rest >= 0) & (rest < len(under))
        values.append((counts[fits] - share) / people)
        shares.append(over[fits] * under[rest[fits]])
    order = np.argsort(np.concatenate(values), kind="stable")
    found, chances = np.concatenate(values)[order], np.concatenate(shares)[order]
    found = np.maximum(found, 0.0)
    starts = np.flatnonzero(np.diff(found, prepend=-1.0) > NEAR)
    summed = np.add.reduceat(chances, starts)
    return Chance(found[starts], summed / summed.sum(), exact=True)


def _counts(expected: float, size: float, people: int, total: float, finite: bool) -> tuple[int, Floats]:
    """Return the least count that is followed, and how likely it and those after it are.

    Binomial counts with one chance for all, given their sum, are a draw without putting back; Poisson ones are a draw
    with it.
    """
    spread = np.sqrt(expected * (1 - people / total) if finite else expected)
    first = max(0, int(expected - WIDE * spread) - 10)
    last = min(people, int(expected + WIDE * spread) + 10)
    if finite:
        last = min(last, int(size))
        first = min(first, last)
    counts = np.arange(first, last + 1)
    if not finite:
        return first, np.exp(counts * np.log(expected) - expected - _log_factorial(counts))
    if people == total:
        return int(size), np.ones(1)
    chance = people / total
    ways = _log_factorial(np.array([size])) - _log_factorial(counts) - _log_factorial(size - counts)
    return first, np.exp(ways + counts * np.log(chance) + (size - counts) * np.log1p(-chance))


def _log_factorial(counts: NDArray[Any]) -> Floats:
    from scipy.special import gammaln

    return np.asarray(gammaln(counts + 1.0), dtype=np.float64)
