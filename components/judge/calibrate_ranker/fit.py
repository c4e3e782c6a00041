"""Which curve takes a stage's answers to what was observed? Fitted per domain, with the pooled rows behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from components.judge.calibrate_ranker.config import Config
from registry.serving.incoming import Codes
from registry.serving.scores.calibration import Curve, Floats, Identity, Isotonic, Platt, Stage, logit

RIDGE = 1e-6
"""Weight of the pull towards the graph's own answer (slope 1, intercept 0): it decides only where rows do not."""
STEPS = 100
"""Newton steps at most; a handful is usual."""


def fit_stage(task: str, p: Floats, y: Floats, codes: Codes, domains: tuple[str, ...], config: Config) -> Stage:
    """Return the curves of one stage.

    Args:
        task: output name.
        p: float64 ``[n]``, the graph's answers to the rows that judge the stage.
        y: float64 ``[n]`` labels, 0 or 1.
        codes: int64 ``[n]``, place of the row's domain in `domains`; negative where it has none.
        domains: domain values.
        config: method, and how many rows a domain needs.
    """
    pooled: Curve = Identity()
    if _fewest(y) >= config.min_positives:
        pooled = fit_curve(p, y, config)
    order = np.argsort(codes, kind="stable")
    found, starts = np.unique(codes[order], return_index=True)
    own: dict[str, Curve] = {}
    for code, rows in zip(found.tolist(), np.split(order, starts[1:]), strict=False):
        if code >= 0 and rows.size >= config.min_rows and _fewest(y[rows]) >= config.min_positives:
            own[domains[code]] = fit_curve(p[rows], y[rows], config)
    return Stage(task=task, pooled=pooled, domains=own)


def fit_curve(p: Floats, y: Floats, config: Config) -> Curve:
    """Return one curve of the configured kind for float64 ``[n]`` answers p and their labels y, of both kinds."""
    if config.method == "none":
        return Identity()
    return fit_platt(p, y) if config.method == "platt" else fit_isotonic(p, y)


def fit_platt(p: Floats, y: Floats) -> Platt:
    """Return σ(a·logit + b) of the largest likelihood, by Newton's method with step halving (Platt 1999).

    Where the best slope is not positive, the model ranks no better than chance there: the slope stays 1 and only the
    level is fitted, because a calibration must not turn a ranking over.
    """
    x = logit(p)
    slope, intercept = _newton(np.stack([x, np.ones_like(x)], axis=1), np.zeros_like(x), y, np.array([1.0, 0.0]))
    if slope <= 0:
        slope, intercept = 1.0, float(_newton(np.ones((x.size, 1)), x, y, np.array([0.0]))[0])
    return Platt(slope=float(slope), intercept=float(intercept))


def fit_isotonic(p: Floats, y: Floats) -> Isotonic:
    """Return the rising step function of least squares, joined by lines (pool adjacent violators).

    Its ends stay 1 / (n + 2) away from 0 and 1: n rows of one label do not make the other impossible.
    """
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (y.size + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(logit(p), y)
    return Isotonic(
        logits=tuple(fitted.X_thresholds_.tolist()),
        # Means of equal labels differ in the last bit; the curve that is stored must not fall.
        probabilities=tuple(np.maximum.accumulate(fitted.y_thresholds_).tolist()),
    )


def _newton(X: np.ndarray[Any, Any], offset: Floats, y: Floats, start: Floats) -> Floats:
    """Return the w that minimises Σ log(1 + e^−(2y−1)(Xw + offset)) + ridge/2 · ‖w − start‖²."""

    def loss(w: Floats) -> float:
        z = X @ w + offset
        return float(np.logaddexp(0.0, z).sum() - y @ z + RIDGE / 2 * ((w - start) ** 2).sum())

    w, value = start.copy(), loss(start)
    for _ in range(STEPS):
        predicted = 1 / (1 + np.exp(-np.clip(X @ w + offset, -700, 700)))
        gradient = X.T @ (predicted - y) + RIDGE * (w - start)
        hessian = (X * (predicted * (1 - predicted))[:, None]).T @ X + RIDGE * np.eye(w.size)
        step = np.linalg.solve(hessian, gradient)
        share = 1.0
        while (lower := loss(w - share * step)) > value and share > 1e-10:
            share /= 2
        if lower >= value:
            break
        w, value = w - share * step, lower
    return w


def _fewest(y: Floats) -> int:
    """Return the number of rows of the rarer label."""
    positives = int(y.sum())
    return min(positives, y.size - positives)
