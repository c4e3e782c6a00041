"""With which probability does a policy show each candidate?"""

from __future__ import annotations

import numpy as np

from components.judge.simulate_policy.estimators import Floats, Integers

_CLIP = 1e-12
"""Probabilities are kept this far from 0 and 1 before their odds are taken."""


def greedy(predicted: Floats) -> Floats:
    """Return ``[n, K]`` probabilities that fall on the highest prediction of each row, shared by ties."""
    best = predicted == predicted.max(axis=1, keepdims=True)
    return np.asarray(best / best.sum(axis=1, keepdims=True), dtype=np.float64)


def softmax(predicted: Floats, temperature: float) -> Floats:
    """Return ``[n, K]`` probabilities in proportion to odds ** (1 / temperature).

    Args:
        predicted: ``[n, K]`` probabilities of the reward.
        temperature: above 0; towards 0 the policy is greedy.
    """
    p = np.clip(predicted, _CLIP, 1 - _CLIP)
    score = (np.log(p) - np.log1p(-p)) / temperature
    odds = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)


def uniform(rows: int, candidates: int) -> Floats:
    """Return ``[n, K]`` equal probabilities."""
    return np.full((rows, candidates), 1 / candidates)


def frequencies(shown: Integers, slot: Integers, slots: int, candidates: int) -> Floats:
    """Return how often a log shows each item in each slot, float64 ``[slots, K]``; rows sum to 1, or are NaN.

    A log holds the propensity of what it showed only. A policy that does not look at the context is its
    frequencies per slot; of one that does they are the part that can be known from its log.

    Args:
        shown: ``[rows]`` item of each impression.
        slot: ``[rows]`` slot of each impression.
        slots: number of slots.
        candidates: number of items.
    """
    counts = np.bincount(slot * candidates + shown, minlength=slots * candidates).reshape(slots, candidates)
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float64)
