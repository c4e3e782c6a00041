"""What would an item have earned that was not shown? Click rates that no row has a part in."""

from __future__ import annotations

import numpy as np

from components.judge.simulate_policy.estimators import Floats, Integers, Logged

FOLDS = 5
WEIGHT = 100.0
"""Impressions of the mean rate that every item starts with."""


def cross_fitted_rates(logged: Logged, candidates: int, seed: int) -> Floats:
    """Return smoothed rates per item that each row takes from the folds it is not in, float64 ``[n, K]``.

    A reward model that has seen a row's own reward leaves too little for the doubly robust correction.

    Args:
        logged: the log.
        candidates: K.
        seed: of the folds.
    """
    rows = logged.reward.size
    fold: Integers = np.random.default_rng(seed).permutation(rows) % FOLDS
    cell = fold * candidates + logged.shown
    size = FOLDS * candidates
    shown = np.bincount(cell, minlength=size).reshape(FOLDS, candidates).astype(np.float64)
    earned = np.bincount(cell, weights=logged.reward, minlength=size).reshape(FOLDS, candidates)
    shown, earned = shown.sum(axis=0) - shown, earned.sum(axis=0) - earned
    mean = earned.sum(axis=1, keepdims=True) / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    rates = (earned + WEIGHT * mean) / (shown + WEIGHT)
    return np.asarray(rates[fold], dtype=np.float64)
