"""How sure is a metric, and how sure is a difference of two models? A bootstrap over users.

Rows of one user are not independent, so users are drawn with replacement, not rows: a resample is a
count per user. Sorting and summing happen once per metric (`registry.metrics.weighted.statistic`); a resample
only changes the weights. The same seed and users give the same resamples, so two models are compared
on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from registry.evaluation import Interval, Metric
from registry.metrics.requests import Requests, statistics_of
from registry.metrics.weighted import (
    BINS,
    METRICS,
    Floats,
    Integers,
    Statistic,
    checked,
    defined,
    group_codes,
    ratio_statistic,
    row_weights,
    sums,
)

CONFIDENCE = 0.95
LEAST_DEFINED = 0.9
"""Share of resamples in which a metric must be defined before bounds are given."""
_ELEMENTS = 2_000_000
"""Rows × resamples worked on at a time: 16 MB per array."""
_MOST_WORK = 100_000_000
"""Rows × resamples after which one interval gets no more resamples than it must have: seconds."""


def bootstrap_all(
    labels: ArrayLike,
    scores: ArrayLike,
    users: ArrayLike,
    metrics: Sequence[Metric] = METRICS,
    resamples: int = 200,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    bins: int = BINS,
    requests: Requests | None = None,
    weights: ArrayLike | None = None,
) -> dict[Metric, Interval]:
    """Return several metrics with percentile intervals from the same draws of users.

    Labels are ``[rows]``, 0 or 1, scores and users ``[rows]``; users are equal for rows of the same user. `confidence`
    is the coverage of the intervals, `bins` those of ``ece``; by `weights`, ``[rows]``, a row counts, once without.

    Bounds are None when `resamples` is 0, when there are fewer than two users, or when the metric is
    undefined in more than a tenth of the resamples (all positives come from one or two users). The
    bounds of ``ece`` are moved so that the resamples' mean meets the value: the mean of absolute gaps
    grows with noise, and a resample has the noise of the sample on top of its own.

    Raises:
        BadInputError: arrays do not fit each other or hold values that are no scores or labels.
    """
    y, s = checked(labels, scores)
    codes, size = group_codes(users, y.size)
    w = None if weights is None else row_weights(weights, y.size)
    statistics = statistics_of(metrics, y, s, codes, size, requests, bins=bins, weights=w)
    values, draws = _evaluate(statistics, y.size, size, resamples, seed)
    intervals: dict[Metric, Interval] = {}
    for metric, value, drawn in zip(metrics, values, draws, strict=True):
        interval = _interval(float(value), drawn, confidence)
        if metric == "ece" and interval.value is not None and interval.low is not None and interval.high is not None:
            bias = float(np.nanmean(drawn)) - interval.value
            low, high = max(0.0, interval.low - bias), max(0.0, interval.high - bias)
            interval = Interval(value=interval.value, low=low, high=high)
        intervals[metric] = interval
    return intervals


def paired_bootstrap(
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    users: ArrayLike,
    metric: Metric,
    resamples: int = 200,
    seed: int = 0,
    *,
    relative: bool = False,
    requests: Requests | None = None,
) -> Interval:
    """Return metric(a) − metric(b) on the same rows with its interval over the same resamples of users.

    `a` are the challenger's scores and `b` the champion's. With `relative` each difference is divided by metric(b) of
    the same resample. Value and bounds are None when either side is undefined on the rows.

    Raises:
        BadInputError: as for `bootstrap_all`.
    """
    return stable_paired_bootstrap(
        labels, a, b, users, metric, np.inf, resamples, resamples, seed, relative=relative, requests=requests
    )[0]


def stable_paired_bootstrap(
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    users: ArrayLike,
    metric: Metric,
    tolerance: float,
    least: int = 200,
    most: int = 5_000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    *,
    relative: bool = False,
    requests: Requests | None = None,
    weights: ArrayLike | None = None,
) -> tuple[Interval, int]:
    """Return what `paired_bootstrap` gives once more resamples would hardly move the bounds, and how many it took.

    Resamples are added, up to twice as many at a time, until the standard error of either bound (from the order
    statistics around it) is at most `tolerance`; the first `least` are those of `paired_bootstrap`. At most `most` are
    drawn, on large tables fewer (`_MOST_WORK` rows × resamples); `tolerance` is in units of the difference. `weights`,
    ``[rows]``, say how much a row counts. Other arguments are those of `paired_bootstrap`.

    Raises:
        BadInputError: as for `bootstrap_all`.
    """
    return mean_paired_bootstrap(
        [labels], [a], [b], users, metric, tolerance, least, most, seed, confidence,
        relative=relative, requests=requests, weights=weights,
    )  # fmt: skip


def mean_paired_bootstrap(
    labels: Sequence[ArrayLike],
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    users: ArrayLike,
    metric: Metric,
    tolerance: float,
    least: int = 200,
    most: int = 5_000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    *,
    relative: bool = False,
    requests: Requests | None = None,
    weights: ArrayLike | None = None,
) -> tuple[Interval, int]:
    """Return what `stable_paired_bootstrap` gives, of the mean of a metric over several labels of the same rows.

    `labels`, `a` and `b` have one entry per label, each ``[rows]``; of one label it is `stable_paired_bootstrap`.
    The mean is undefined where the metric of one label is.

    Raises:
        BadInputError: as for `bootstrap_all`.
    """
    sides = [[checked(y, scores) for y, scores in zip(labels, side, strict=True)] for side in (a, b)]
    rows = sides[0][0][0].size
    codes, size = group_codes(users, rows)
    w = None if weights is None else row_weights(weights, rows)
    pair = [
        [statistics_of((metric,), y, scores, codes, size, requests, weights=w)[0] for y, scores in side]
        for side in sides
    ]
    rng = np.random.default_rng(seed)

    def mean(side: Sequence[Statistic], counts: Floats) -> Floats:
        return np.asarray(np.mean([of(counts) for of in side], axis=0))

    def draw(count: int) -> Floats:
        blocks = [np.stack([mean(side, counts) for side in pair]) for counts in _drawn(rng, rows, size, count)]
        return np.concatenate(blocks, axis=1)

    values = np.array([mean(side, np.ones((size, 1)))[0] for side in pair])
    bound = max(least, min(most, _MOST_WORK // max(1, rows * len(labels))))
    return _stable(values, draw, tolerance, least if size > 1 else 0, bound, confidence, relative)


@dataclass(frozen=True)
class Arm:
    """A statistic of rows whose users got one of two versions."""

    of: Statistic
    """Of the weights of `users` groups."""
    rows: int
    users: int


def arms_bootstrap(
    first: Arm,
    second: Arm,
    tolerance: float,
    least: int = 200,
    most: int = 5_000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    *,
    relative: bool = False,
) -> tuple[Interval, int]:
    """Return the first arm's value − the second's with its interval, and how many resamples that took.

    Users are drawn within each arm, independently of the other: nobody is in both, so that nothing can be paired.
    Other arguments are those of `stable_paired_bootstrap`.
    """
    arms = [(arm, np.random.default_rng([seed, place])) for place, arm in enumerate((first, second))]

    def draw(count: int) -> Floats:
        return np.stack(
            [
                np.concatenate([arm.of(counts) for counts in _drawn(rng, arm.rows, arm.users, count)])
                for arm, rng in arms
            ]
        )

    values = np.array([arm.of(np.ones((arm.users, 1)))[0] for arm, _ in arms])
    bound = max(least, min(most, _MOST_WORK // max(1, first.rows + second.rows)))
    enough = min(first.users, second.users) > 1
    return _stable(values, draw, tolerance, least if enough else 0, bound, confidence, relative)


def _stable(
    values: Floats,
    draw: Callable[[int], Floats],
    tolerance: float,
    least: int,
    bound: int,
    confidence: float,
    relative: bool,
) -> tuple[Interval, int]:
    """Return the difference of two values with its interval, drawn until the bounds are stable.

    `draw` returns so many more ``[2, B]`` pairs of both statistics; `least` is 0 where none can be drawn.
    """
    drawn = np.zeros(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = (values[0] - values[1]) / (values[1] if relative else 1.0)
        due = least
        while due:
            one, other = draw(due)
            drawn = np.concatenate([drawn, (one - other) / (other if relative else 1.0)])
            needed = _needed(drawn, tolerance, confidence)
            due = max(0, min(bound, needed, 2 * drawn.size) - drawn.size)
    return _interval(float(difference), drawn, confidence), int(drawn.size)


def _needed(draws: Floats, tolerance: float, confidence: float) -> int:
    """Return how many draws make the standard error of both bounds at most `tolerance`, as far as these can tell."""
    finite = np.sort(draws[np.isfinite(draws)])
    if finite.size < LEAST_DEFINED * draws.size or not finite.size:
        return draws.size  # there will be no bounds
    tail = (1 - confidence) / 2
    spread = np.sqrt(finite.size * tail * (1 - tail))
    errors = []
    for place in (tail * finite.size, (1 - tail) * finite.size):
        low, high = (int(np.clip(round(at), 0, finite.size - 1)) for at in (place - spread, place + spread))
        errors.append((finite[high] - finite[low]) / 2)
    return int(np.ceil(draws.size * (max(errors) / tolerance) ** 2))


def bootstrap_ratios(
    ratios: Mapping[str, tuple[Floats, Floats]],
    groups: ArrayLike,
    resamples: int = 200,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> dict[str, Interval]:
    """Return Σ above / Σ below of several pairs with percentile intervals from the same draws of groups.

    Each ratio's values above and below are float64 ``[rows]``; rows of equal `groups` are drawn together.

    Returns:
        By name the interval; bounds are None as for `bootstrap_all`.
    """
    rows = np.asarray(groups).size
    codes, size = group_codes(groups, rows)
    pairs = [ratio_statistic(*(sums(codes, size, values) for values in pair)) for pair in ratios.values()]
    values, draws = _evaluate(pairs, rows, size, resamples, seed)
    return {
        name: _interval(float(value), drawn, confidence)
        for name, value, drawn in zip(ratios, values, draws, strict=True)
    }


def _evaluate(
    statistics: Sequence[Statistic], rows: int, users: int, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Return ``[metrics]`` values and ``[metrics, resamples]`` draws."""
    values = np.array([of(np.ones((users, 1)))[0] for of in statistics])
    if users < 2 or resamples == 0:
        return values, np.full((len(statistics), 0), np.nan)
    drawn = _drawn(np.random.default_rng(seed), rows, users, resamples)
    blocks = [np.stack([of(counts) for of in statistics]) for counts in drawn]
    return values, np.concatenate(blocks, axis=1)


def _drawn(rng: np.random.Generator, rows: int, users: int, resamples: int) -> Iterator[Floats]:
    """Yield ``[users, block]`` counts of how often each user is drawn next; memory stays bounded.

    The generator does not care how they are divided into blocks.
    """
    block = max(1, min(resamples, _ELEMENTS // max(1, rows)))
    for start in range(0, resamples, block):
        width = min(block, resamples - start)
        drawn: Integers = rng.integers(0, users, size=(width, users))
        flat = (drawn * width + np.arange(width)[:, None]).ravel()
        yield np.bincount(flat, minlength=users * width).reshape(users, width).astype(np.float64)


def _interval(value: float, draws: Floats, confidence: float) -> Interval:
    finite = draws[np.isfinite(draws)]
    point = defined(value) if np.isfinite(value) else None
    if point is None or finite.size == 0 or finite.size < LEAST_DEFINED * draws.size:
        return Interval(value=point)
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=point, low=float(low), high=float(high))
