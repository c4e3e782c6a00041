"""What is a metric when rows are weighted by group? Each written once, for many weight vectors at a time.

A metric is prepared once for labels and scores (sorting, sums per group) and then takes weights per
*group* of rows. With every weight 1 it is the plain metric; when each row is its own group the weights
are row weights; when the groups are users and the weights are counts it is one bootstrap resample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.ground.errors import BadInputError
from registry.evaluation import RowMetric

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Codes = NDArray[np.unsignedinteger[Any]]
Statistic = Callable[[Floats], Floats]
"""``[groups, B]`` weights → ``[B]`` values, NaN where a value is undefined."""

METRICS: tuple[RowMetric, ...] = get_args(RowMetric)
"""Every metric of rows, in a report's order."""
CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 inside a logarithm."""
SCORE_BITS = 32
"""Bits of a sort key that hold the score; the user stands above them."""
DENSE = 4
"""Integer ids that span at most this many times the rows are counted instead of sorted."""
BINS = 10
"""Equal-mass bins of the calibration error unless told otherwise."""


def statistic(
    metric: RowMetric,
    labels: Floats,
    scores: Floats,
    groups: Integers,
    size: int,
    *,
    bins: int = BINS,
    weights: Floats | None = None,
) -> Statistic:
    """Return one metric as a function of group weights; sorting and summing per group happen once, here.

    Args:
        metric: which metric. For ``gauc`` the groups are the users.
        labels: ``[rows]``, checked.
        scores: ``[rows]``, checked.
        groups: ``[rows]`` codes in ``[0, size)``.
        size: number of groups.
        bins: bins of ``ece``.
        weights: ``[rows]`` by which a row counts beside its group; None counts every row once.
    """
    w = np.ones_like(scores) if weights is None else weights
    match metric:
        case "auc":
            return _auc_statistic(labels, scores, groups, weights)
        case "gauc":
            return ratio_statistic(*user_aucs(labels, scores, groups, size, weights))
        case "log_loss":
            return ratio_statistic(*(sums(groups, size, v) for v in (w * _losses(labels, scores), w)))
        case "pcoc":
            return ratio_statistic(*(sums(groups, size, w * v) for v in (scores, labels)))
        case "normalised_entropy":
            return _entropy_statistic(labels, scores, groups, size, w)
        case "ece":
            return _ece_statistic(labels, scores, groups, bins, weights)


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return labels and scores as float64 ``[rows]``.

    Raises:
        BadInputError: a score is not finite, a label is neither 0 nor 1, or lengths differ.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise BadInputError(f"labels have shape {y.shape} and scores {s.shape}: give one score per label")
    if not np.isfinite(s).all():
        raise BadInputError(f"{int((~np.isfinite(s)).sum())} of {s.size} scores are not numbers: look at the model")
    wrong = (y != 0) & (y != 1)
    if wrong.any():
        raise BadInputError(f"label {y[wrong][0]:g} is neither 0 nor 1: metrics take binary labels")
    return y, s


def group_codes(groups: ArrayLike, rows: int) -> tuple[Integers, int]:
    """Return dense int64 codes of any group ids, in the order of the ids, and the number of groups.

    Raises:
        BadInputError: there is not one id per row.
    """
    ids = np.asarray(groups)
    if ids.shape != (rows,):
        raise BadInputError(f"users have shape {ids.shape} for {rows} rows: give one user per row")
    if ids.dtype.kind in "iu" and rows and int(ids.max()) - int(ids.min()) <= DENSE * rows:
        # Wraps around for uint64, and the difference wraps back.
        place = ids.astype(np.int64) - ids.min().astype(np.int64)
        seen = np.zeros(int(place.max()) + 1, dtype=bool)
        seen[place] = True
        return (np.cumsum(seen) - 1)[place], int(np.count_nonzero(seen))
    found, codes = np.unique(ids, return_inverse=True)
    return codes.astype(np.int64), int(found.size)


def defined(value: float | np.floating[Any]) -> float | None:
    """Return the value, or None for NaN."""
    return None if np.isnan(value) else float(value)


def row_weights(weights: ArrayLike | None, rows: int) -> Floats:
    """Return float64 ``[rows]`` weights, 1 everywhere for None.

    Raises:
        BadInputError: there is not one finite, non-negative weight per row.
    """
    if weights is None:
        return np.ones(rows)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (rows,) or not np.isfinite(w).all() or (w < 0).any():
        raise BadInputError(f"weights must be {rows} finite, non-negative numbers: one per row")
    return w


def ratio(above: Floats, below: Floats) -> Floats:
    """Return above / below, NaN where `below` is not positive."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def sums(groups: Integers, size: int, values: Floats) -> Floats:
    """Return the sum of `values` per group, float64 ``[size]``."""
    return np.asarray(np.bincount(groups, weights=values, minlength=size), dtype=np.float64)


def ratio_statistic(above: Floats, below: Floats) -> Statistic:
    """Return Σ w·above / Σ w·below for sums per group."""
    return lambda weights: ratio(above @ weights, below @ weights)


def _losses(labels: Floats, p: Floats) -> Floats:
    q = np.clip(p, CLIP, 1 - CLIP)
    return -(labels * np.log(q) + (1 - labels) * np.log1p(-q))


def _entropy_statistic(labels: Floats, p: Floats, groups: Integers, size: int, w: Floats) -> Statistic:
    loss, rows, positives = (sums(groups, size, v) for v in (w * _losses(labels, p), w, w * labels))

    def value(weights: Floats) -> Floats:
        n = rows @ weights
        rate = ratio(positives @ weights, n)
        mixed = (rate > 0) & (rate < 1)
        inner = np.where(mixed, rate, 0.5)
        entropy = np.where(mixed, -(inner * np.log(inner) + (1 - inner) * np.log1p(-inner)), 0.0)
        return ratio(ratio(loss @ weights, n), entropy)

    return value


def _tie_starts(*sorted_keys: NDArray[Any]) -> Integers:
    """Return where a new run of equal keys begins in sorted columns."""
    changes = np.zeros(sorted_keys[0].size, dtype=bool)
    changes[:1] = True
    for key in sorted_keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changes)


def _auc_statistic(labels: Floats, scores: Floats, groups: Integers, weights: Floats | None) -> Statistic:
    """Return Σ_t P_t·(N_<t + N_t/2) / (P·N) over ties t, the weighted Mann-Whitney statistic."""
    order = np.argsort(scores, kind="stable")
    group, y = groups[order], labels[order][:, None]
    counted = None if weights is None else weights[order][:, None]
    starts = _tie_starts(scores[order])
    tied = starts.size < scores.size

    def value(weights: Floats) -> Floats:
        if scores.size == 0:
            return np.full(weights.shape[1], np.nan)
        w = weights[group] if counted is None else weights[group] * counted
        positive = w * y
        negative = w - positive
        if tied:
            positive = np.add.reduceat(positive, starts, axis=0)
            negative = np.add.reduceat(negative, starts, axis=0)
        below = np.cumsum(negative, axis=0)
        all_negative = below[-1].copy()
        below -= 0.5 * negative
        area = np.einsum("rb,rb->b", positive, below)
        return ratio(area, positive.sum(axis=0) * all_negative)

    return value


def user_aucs(
    labels: Floats, scores: Floats, users: Integers, size: int, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return ``[size]`` AUC × mass and mass (sum of weights), both 0 for users of one class.

    Args:
        labels: ``[rows]``, checked.
        scores: ``[rows]``, checked.
        users: ``[rows]`` codes in ``[0, size)``.
        size: number of users, below 2^31.
        weights: ``[rows]``, non-negative; None counts every row once.
    """
    if labels.size == 0:
        return np.zeros(size), np.zeros(size)
    # One integer per row that sorts by user and then by score: far cheaper than a sort by two columns.
    key = users.astype(np.uint64) << np.uint64(SCORE_BITS) | _score_codes(scores)
    owner, positive, negative = _counted(key, labels) if weights is None else _weighed(key, labels, weights)
    all_positive, all_negative = sums(owner, size, positive), sums(owner, size, negative)
    # Negatives of all earlier users, so that the running sum starts anew with each user.
    earlier = np.concatenate(([0.0], np.cumsum(all_negative)[:-1]))
    below = np.cumsum(negative)
    below -= 0.5 * negative
    below -= earlier[owner]
    below *= positive
    area = ratio(sums(owner, size, below), all_positive * all_negative)
    mass = np.where(np.isnan(area), 0.0, all_positive + all_negative)
    return np.nan_to_num(area) * mass, mass


def request_runs(labels: Floats, scores: Floats, requests: Integers) -> tuple[Integers, Floats, Floats]:
    """Return of every run of equal scores within a request, the best first: the request, positive rows, all rows.

    Args:
        labels: ``[rows]``, checked.
        scores: ``[rows]``, checked.
        requests: ``[rows]`` codes, below 2^31.
    """
    if labels.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
    worst_first = _score_codes(scores).astype(np.uint64)
    key = requests.astype(np.uint64) << np.uint64(SCORE_BITS) | (np.uint64(0xFFFFFFFF) - worst_first)
    owner, positive, negative = _counted(key, labels)
    return owner, positive, positive + negative


def _score_codes(scores: Floats) -> Codes:
    """Return integers below 2^32 that order, and tie, as the scores do."""
    with np.errstate(over="ignore"):
        single = scores.astype(np.float32)
    if (single == scores).all():
        bits = (single + np.float32(0.0)).view(np.uint32)  # −0 becomes 0
        negative = bits >> np.uint32(31)
        return bits ^ (negative * np.uint32(0x7FFFFFFF) + np.uint32(0x80000000))
    order = np.argsort(scores)
    starts = _tie_starts(scores[order])
    codes = np.empty(scores.size, dtype=np.uint32)
    codes[order] = np.repeat(np.arange(starts.size, dtype=np.uint32), np.diff(starts, append=scores.size))
    return codes


def _counted(key: Codes, labels: Floats) -> tuple[Integers, Floats, Floats]:
    """Return of every run of equal keys, in their order: the user, positive rows, negative rows."""
    sorted_key = np.sort(key << np.uint64(1) | labels.astype(np.uint64))  # the label travels along, below the key
    positive = (sorted_key & np.uint64(1)).astype(np.float64)
    sorted_key >>= np.uint64(1)
    starts = _tie_starts(sorted_key)
    positive = np.add.reduceat(positive, starts)
    owner = (sorted_key[starts] >> np.uint64(SCORE_BITS)).astype(np.int64)
    return owner, positive, np.diff(starts, append=key.size) - positive


def _weighed(key: Codes, labels: Floats, weights: Floats) -> tuple[Integers, Floats, Floats]:
    """Return of every run of equal keys, in their order: the user, weight of positives, weight of negatives."""
    order = np.argsort(key, kind="stable")  # so that sums of weights are the same on every machine
    sorted_key, w = key[order], weights[order]
    starts = _tie_starts(sorted_key)
    positive = w * labels[order]
    owner = (sorted_key[starts] >> np.uint64(SCORE_BITS)).astype(np.int64)
    return owner, np.add.reduceat(positive, starts), np.add.reduceat(w - positive, starts)


def bin_codes(p: Floats, bins: int) -> Integers:
    """Return the equal-mass bin of each row: where the middle of its run of ties lies among all rows."""
    order = np.argsort(p, kind="stable")
    starts = _tie_starts(p[order])
    ends = np.append(starts[1:], p.size)
    # (start + end)/2 is the middle of a run; integers keep the cut exact.
    code = ((starts + ends) * bins) // (2 * max(1, p.size))
    codes = np.empty(p.size, dtype=np.int64)
    codes[order] = np.repeat(code, ends - starts)
    return codes


def _ece_statistic(labels: Floats, p: Floats, groups: Integers, bins: int, weights: Floats | None) -> Statistic:
    codes = bin_codes(p, bins)
    order = np.argsort(codes, kind="stable")
    starts = _tie_starts(codes[order])
    group, gap = groups[order], (p - labels)[order][:, None]
    counted = None if weights is None else weights[order][:, None]

    def value(weights: Floats) -> Floats:
        if p.size == 0:
            return np.full(weights.shape[1], np.nan)
        w = weights[group] if counted is None else weights[group] * counted
        total = w.sum(axis=0)
        gaps = np.add.reduceat(w * gap, starts, axis=0)
        return ratio(np.abs(gaps).sum(axis=0), total)

    return value
