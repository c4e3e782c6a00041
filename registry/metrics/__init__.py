"""How well do scores rank and calibrate? Exact metrics over arrays, without a loop over rows or users.

Undefined values (the AUC of one class) are None, never NaN. `bootstrap_all` and `paired_bootstrap` say how
sure a value and a difference of two models are; see `registry.metrics.resampling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from registry.evaluation import Metric, RowMetric
from registry.metrics.requests import REQUEST_METRICS, Requests, statistics_of
from registry.metrics.resampling import (
    bootstrap_all,
    mean_paired_bootstrap,
    paired_bootstrap,
    stable_paired_bootstrap,
)
from registry.metrics.weighted import (
    BINS,
    METRICS,
    bin_codes,
    checked,
    defined,
    group_codes,
    ratio,
    row_weights,
    statistic,
    user_aucs,
)

__all__ = [
    "BINS",
    "METRICS",
    "REQUEST_METRICS",
    "CalibrationPoint",
    "Requests",
    "auc",
    "bootstrap_all",
    "calibration_bins",
    "ece",
    "gauc",
    "log_loss",
    "mean_paired_bootstrap",
    "normalised_entropy",
    "paired_bootstrap",
    "pcoc",
    "stable_paired_bootstrap",
    "value_of",
]


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Return the area under the ROC curve; a tie of a positive and a negative counts one half.

    Args:
        labels: ``[rows]``, 0 or 1.
        scores: ``[rows]``, larger means likelier positive; any monotone transform gives the same value.
        weights: ``[rows]``, non-negative; None counts every row once.

    Returns:
        The value, or None when the rows hold one class only.

    Raises:
        BadInputError: a score is not finite, a label is neither 0 nor 1, or lengths differ.
    """
    y, s = checked(labels, scores)
    return _mean_auc(y, s, np.zeros(y.size, dtype=np.int64), 1, weights)  # as of one user


def gauc(labels: ArrayLike, scores: ArrayLike, users: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Return the mean of the users' own AUCs, each weighted by the user's rows (their weights' sum).

    Users whose rows are of one class have no AUC and count neither above nor below the line, as
    with the impression-weighted AUC of DIN (Zhou et al., KDD 2018).

    Args:
        labels: ``[rows]``, 0 or 1.
        scores: ``[rows]``.
        users: ``[rows]``, equal for rows of the same user; integers or strings.
        weights: ``[rows]``, non-negative.

    Returns:
        The value, or None when no user has both classes.

    Raises:
        BadInputError: as for `auc`.
    """
    y, s = checked(labels, scores)
    codes, size = group_codes(users, y.size)
    return _mean_auc(y, s, codes, size, weights)


def _mean_auc(
    labels: NDArray[np.float64],
    scores: NDArray[np.float64],
    users: NDArray[np.int64],
    size: int,
    weights: ArrayLike | None,
) -> float | None:
    w = None if weights is None else row_weights(weights, labels.size)
    total, mass = user_aucs(labels, scores, users, size, w)
    return defined(ratio(total.sum(keepdims=True), mass.sum(keepdims=True))[0])


def value_of(
    metric: Metric,
    labels: ArrayLike,
    scores: ArrayLike,
    users: ArrayLike,
    requests: Requests | None = None,
    weights: ArrayLike | None = None,
) -> float | None:
    """Return any metric of rows or requests; None where it is undefined. Without `weights` every row counts once.

    Raises:
        BadInputError: as for `auc`, or a metric of requests without requests.
    """
    y, s = checked(labels, scores)
    codes, size = group_codes(users, y.size)
    w = None if weights is None else row_weights(weights, y.size)
    return defined(statistics_of((metric,), y, s, codes, size, requests, weights=w)[0](np.ones((size, 1)))[0])


def log_loss(labels: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Return the mean negative log-likelihood in nats, probabilities clipped to ``[1e-7, 1 − 1e-7]``.

    Returns:
        The value, or None without rows.
    """
    return _by_row("log_loss", labels, p, weights)


def normalised_entropy(labels: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Return log-loss divided by the entropy of the base rate (He et al., ADKDD 2014).

    Returns:
        The value (1 is no better than the base rate), or None when the rows hold one class only.
    """
    return _by_row("normalised_entropy", labels, p, weights)


def pcoc(labels: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Return predicted over observed positives, Σp / Σy; above 1 is over-prediction.

    Returns:
        The value, or None without positives.
    """
    return _by_row("pcoc", labels, p, weights)


def ece(labels: ArrayLike, p: ArrayLike, weights: ArrayLike | None = None, bins: int = BINS) -> float | None:
    """Return the expected calibration error Σ_b (n_b/n)·|mean p − mean y| over equal-mass bins.

    Bins are cut on the unweighted rows; rows with equal predictions share a bin, so that the order of
    the rows changes nothing.

    Returns:
        The value, or None without rows.
    """
    return _by_row("ece", labels, p, weights, bins)


@dataclass(frozen=True)
class CalibrationPoint:
    """One bin of a calibration curve: mean prediction, share of positives, rows."""

    predicted: float
    observed: float
    rows: int


def calibration_bins(
    labels: ArrayLike, p: ArrayLike, bins: int = BINS, weights: ArrayLike | None = None
) -> tuple[CalibrationPoint, ...]:
    """Return the bins behind `ece`, from low to high predictions; bins that ties leave empty are left out."""
    y, s = checked(labels, p)
    code = bin_codes(s, bins)
    rows, w = np.bincount(code, minlength=bins), row_weights(weights, y.size)
    mass = np.bincount(code, weights=w, minlength=bins)
    kept = mass > 0
    predicted = np.bincount(code, weights=s * w, minlength=bins)[kept] / mass[kept]
    observed = np.bincount(code, weights=y * w, minlength=bins)[kept] / mass[kept]
    return tuple(
        CalibrationPoint(float(a), float(b), int(n)) for a, b, n in zip(predicted, observed, rows[kept], strict=True)
    )


def _by_row(
    metric: RowMetric, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, bins: int = BINS
) -> float | None:
    y, s = checked(labels, scores)
    value = statistic(metric, y, s, np.arange(y.size), y.size, bins=bins)
    return defined(value(row_weights(weights, y.size)[:, None])[0])
