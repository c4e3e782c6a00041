"""How do neighbours' labels and predictions correct a prediction? The read-out of ReLoop2.

Zhu et al., KDD 2023, section 4.2: attention over neighbours, error estimate with γ, mixture with λ.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import Field

from features.declaration import Frozen
from registry.memory.sketch import Neighbours

Array = np.ndarray[Any, Any]


class ReadOut(Frozen):
    """How the arrays' answers become one.

    Attributes:
        gamma: γ; 1 compares neighbours' labels with the query's own prediction, 0 takes the neighbours'
            own errors.
        temperature: τ of the softmax; with similarity log1p(n), an array weighs (1 + n)^(1/τ).
        pool: ``softmax`` over arrays, or ``ratio``, which weighs arrays by n: one ratio of sums.
        shrinkage: n₀ of n / (n + n₀), n being the mean bucket count; 0 switches it off.
    """

    gamma: float = Field(1.0, ge=0, le=1)
    temperature: float = Field(1.0, gt=0)
    pool: Literal["softmax", "ratio"] = "softmax"
    shrinkage: float = Field(0.0, ge=0)


def attention(similarity: Array, occupied: Array, temperature: float) -> Array:
    """Return softmax(similarity / τ) over the occupied neighbours of each query.

    Args:
        similarity: float ``[B, K]``.
        occupied: bool ``[B, K]``; the others weigh nothing.
        temperature: τ.

    Returns:
        float64 ``[B, K]``; rows sum to 1, or are all 0 where no neighbour is occupied.
    """
    scaled = np.where(occupied, np.asarray(similarity, dtype=np.float64) / temperature, -np.inf)
    highest = scaled.max(axis=1, keepdims=True, initial=-np.inf)
    raised = np.exp(scaled - np.where(np.isfinite(highest), highest, 0.0))
    total = raised.sum(axis=1, keepdims=True)
    return raised / np.where(total > 0, total, 1.0)


def array_weights(count: Array, read_out: ReadOut) -> Array:
    """Return the weight of each array per query, float64 ``[B, m]``, from bucket counts ``[B, m]``."""
    if read_out.pool == "ratio":
        return count / np.maximum(count.sum(axis=1, keepdims=True), 1.0)
    return attention(np.log1p(count), count > 0, read_out.temperature)


def confidence(count: Array, shrinkage: float) -> Array:
    """Return n / (n + n₀) per query, float64 ``[B]``, n being the mean bucket count; 0 where all are empty."""
    mean = count.mean(axis=1)
    return np.where(mean > 0, mean / np.where(mean > 0, mean + shrinkage, 1.0), 0.0)


def estimated_error(weights: Array, label: Array, predicted: Array, base: Array, gamma: float) -> Array:
    """Return ŷ_err = γ(ȳ − ŷ_base) + (1 − γ)(ȳ − ȳ_base).

    Args:
        weights: ``[B, K]``, rows that sum to 1 or are all 0.
        label: neighbours' mean labels ``[B, K]``.
        predicted: neighbours' mean base predictions ``[B, K]``.
        base: the query's base prediction ``[B]``.
        gamma: γ.

    Returns:
        float64 ``[B]``; exactly 0 where all weights are 0: a query without neighbours has no known error.
    """
    mean_label = (weights * label).sum(axis=1)
    mean_predicted = (weights * predicted).sum(axis=1)
    error = gamma * (mean_label - base) + (1 - gamma) * (mean_label - mean_predicted)
    return np.where((weights > 0).any(axis=1), error, 0.0)


def errors_of(neighbours: Neighbours, base: Mapping[str, Array], read_out: ReadOut) -> dict[str, Array]:
    """Return the shrunk error estimate of every stored task, float64 ``[B]`` each."""
    weights = array_weights(neighbours.count, read_out)
    trust = confidence(neighbours.count, read_out.shrinkage)
    return {
        task: trust
        * estimated_error(
            weights,
            neighbours.label[task],
            neighbours.predicted[task],
            np.asarray(base[task], dtype=np.float64),
            read_out.gamma,
        )
        for task in neighbours.label
    }


def apply(base: Array, error: Array, weight: float) -> Array:
    """Return clip(ŷ_base + λ·ŷ_err, 0, 1), float64 ``[B]``; `base` to the bit where the step is 0."""
    exact = np.asarray(base, dtype=np.float64)
    step = weight * error
    return np.where(step == 0, exact, np.clip(exact + step, 0.0, 1.0))


def in_funnel_order(
    compensated: Mapping[str, Array], base: Mapping[str, Array], feedback: tuple[str, ...]
) -> dict[str, Array]:
    """Return the compensated tasks with deeper feedback no likelier than shallower.

    Tasks are compensated one by one, so P(love) may end above P(like): then love is lowered to like.
    Rows that no compensation touched keep the base model's answer, whatever it is.

    Args:
        compensated: by task ``[B]``.
        base: by task ``[B]``, before compensation.
        feedback: ordered feedback names, shallow to deep.
    """
    ordered = {task: np.asarray(values) for task, values in compensated.items()}
    touched = np.zeros(len(next(iter(ordered.values()))), dtype=bool) if ordered else np.zeros(0, dtype=bool)
    for task in feedback:
        touched |= ordered[task] != np.asarray(base[task], dtype=np.float64)
    for shallow, deep in pairwise(feedback):
        ordered[deep] = np.where(touched, np.minimum(ordered[deep], ordered[shallow]), ordered[deep])
    return ordered
