"""How well is each request ordered? MRR, NDCG, hit rate and recall of its first places, exact among equal scores.

A request is what was shown together (a slate, a session). Rows of equal score have no order of their own: every value
is the mean over all orders of them, so a constant score gets what chance gives and the order of the rows changes
nothing. Requests without a positive row have no order to find and are left out, as users of one class are in GAUC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast, get_args

import numpy as np
from numpy.typing import ArrayLike

from features.ground.errors import BadInputError
from registry.evaluation import Metric, RequestMetric, RowMetric
from registry.metrics.weighted import (
    BINS,
    Floats,
    Integers,
    Statistic,
    group_codes,
    ratio,
    ratio_statistic,
    request_runs,
    statistic,
    sums,
    user_aucs,
)

TOP = 10
"""First places that NDCG, hit rate and recall look at unless told otherwise."""
REQUEST_METRICS: tuple[RequestMetric, ...] = get_args(RequestMetric)
"""Every metric of requests, in a report's order."""


@dataclass(frozen=True)
class Requests:
    """Which rows were shown together, and how far down they are read."""

    of: ArrayLike
    """``[rows]``, equal for rows of the same request; integers or strings."""
    top: int = TOP
    """Places that ``ndcg``, ``hit_rate`` and ``recall`` look at."""


@dataclass(frozen=True)
class _Runs:
    """Runs of rows with equal scores, the best first within each request."""

    request: Integers
    """``[runs]`` request of each run, ascending."""
    positive: Floats
    """``[runs]`` positive rows."""
    rows: Floats
    """``[runs]`` rows."""
    above: Floats
    """``[runs]`` rows of the same request with a higher score."""
    positives: Floats
    """``[requests]`` positive rows."""


def statistics_of(
    metrics: Sequence[Metric],
    labels: Floats,
    scores: Floats,
    groups: Integers,
    size: int,
    requests: Requests | None,
    *,
    bins: int = BINS,
    weights: Floats | None = None,
) -> list[Statistic]:
    """Return metrics of rows and of requests as functions of group weights; requests are sorted once for all of them.

    A request weighs what its group weighs, where rows have `weights` times the mean one of its positive rows. ``mrr``,
    ``ndcg``, ``hit_rate`` and ``recall`` are means over requests with a positive row; ``request_auc`` is the mean of
    the requests' own AUCs, each weighted by its rows.

    Args:
        metrics: which metrics.
        labels: ``[rows]``, checked.
        scores: ``[rows]``, checked.
        groups: ``[rows]`` codes in ``[0, size)``; the rows of a request are of one group.
        size: number of groups.
        requests: which rows were shown together; without it there are metrics of rows only.
        bins: bins of ``ece``.
        weights: ``[rows]`` by which a row counts beside its group; None counts every row once.

    Raises:
        BadInputError: a metric of requests without requests, or a request with rows of two groups.
    """
    if not (wanted := [metric for metric in metrics if metric in REQUEST_METRICS]):
        return [
            statistic(cast("RowMetric", metric), labels, scores, groups, size, bins=bins, weights=weights)
            for metric in metrics
        ]
    if requests is None:
        raise BadInputError(f"{wanted[0]} is measured within requests: say which column holds them, in `request`")
    codes, count = group_codes(requests.of, labels.size)
    group = np.zeros(count, dtype=np.int64)
    group[codes] = groups
    if (group[codes] != groups).any():
        raise BadInputError("a request holds rows of two users: a request is what one user was shown together")
    runs = cache(lambda: _runs(labels, scores, codes, count))

    def prepared(metric: Metric) -> Statistic:
        if metric not in REQUEST_METRICS:
            return statistic(cast("RowMetric", metric), labels, scores, groups, size, bins=bins, weights=weights)
        if metric == "request_auc":
            above, below = user_aucs(labels, scores, codes, count, weights)
        else:
            below = (runs().positives > 0).astype(np.float64)
            if weights is not None:
                below *= np.nan_to_num(ratio(sums(codes, count, weights * labels), runs().positives))
            above = np.where(runs().positives > 0, _values(metric, runs(), count, requests.top), 0.0) * below
        return ratio_statistic(sums(group, size, above), sums(group, size, below))

    return [prepared(metric) for metric in metrics]


def _runs(labels: Floats, scores: Floats, requests: Integers, count: int) -> _Runs:
    request, positive, rows = request_runs(labels, scores, requests)
    ends = np.cumsum(rows)
    before = np.concatenate(([0.0], np.cumsum(sums(request, count, rows))[:-1]))
    return _Runs(request, positive, rows, ends - rows - before[request], sums(request, count, positive))


def _values(metric: RequestMetric, runs: _Runs, count: int, top: int) -> Floats:
    """Return ``[requests]`` values; anything where a request has no positive row."""
    if metric == "mrr":
        return _reciprocal_ranks(runs, count)
    inside = np.minimum(runs.above + runs.rows, top) - np.minimum(runs.above, top)
    share = runs.positive / runs.rows
    if metric == "recall":
        return ratio(sums(runs.request, count, share * inside), runs.positives)
    if metric == "ndcg":
        gains = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, top + 2)))))
        first = np.minimum(runs.above, top).astype(np.int64)
        gained = sums(runs.request, count, share * (gains[first + inside.astype(np.int64)] - gains[first]))
        return ratio(gained, gains[np.minimum(runs.positives, top).astype(np.int64)])
    # No hit: no positive in any run within the first places, nor in the part of the run that their end cuts.
    with np.errstate(divide="ignore"):
        return 1 - np.exp(sums(runs.request, count, np.log(_none_of(runs.rows, runs.positive, inside))))


def _none_of(rows: Floats, positive: Floats, drawn: Floats) -> Floats:
    """Return the chance that `drawn` of some rows, in any order, hold none of the positive ones."""
    left = rows - positive
    possible = left >= drawn
    table = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, max(1, int(rows.max(initial=1))) + 1)))))

    def log_factorial(of: Floats) -> Floats:
        return np.asarray(table[np.where(possible, of, 0).astype(np.int64)])

    chance = log_factorial(left) - log_factorial(left - drawn) - log_factorial(rows) + log_factorial(rows - drawn)
    return np.where(possible, np.exp(chance), 0.0)


def _reciprocal_ranks(runs: _Runs, count: int) -> Floats:
    """Return the mean of 1 / rank of the first positive row over all orders of equal scores."""
    with_positive = np.flatnonzero(runs.positive > 0)
    request, first = np.unique(runs.request[with_positive], return_index=True)
    run = with_positive[first]
    rows, positive, above = (values[run] for values in (runs.rows, runs.positive, runs.above))
    lengths = rows.astype(np.int64)
    # One entry per place of each run: the first positive row stands there if none stood before and not none until then.
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    t, p, s = (np.repeat(values, lengths) for values in (rows, positive, above))
    chance = _none_of(t, p, place.astype(np.float64)) - _none_of(t, p, place + 1.0)
    values = np.zeros(count)
    values[request] = sums(np.repeat(np.arange(run.size), lengths), run.size, chance / (s + place + 1))
    return values
