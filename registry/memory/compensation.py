"""How do neighbours' labels and predictions correct a prediction? The read-out of ReLoop2.

Zhu et al., KDD 2023, section 4.2: attention over neighbours, error estimate with γ, mixture with λ.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from registry.memory.neighbours import Neighbours
from registry.memory.spec import ReadOut

Array = np.ndarray[Any, Any]


def attention(similarity: Array, mass: Array, temperature: float) -> Array:
    """Return softmax(similarity / τ) over the neighbours of each query, each weighed by its mass.

    Args:
        similarity: float ``[B, K]``.
        mass: ``[B, K]``, at least 0; a neighbour of mass 0 weighs nothing. Masses of 0 and 1 give the plain
            softmax over the latter.
        temperature: τ.

    Returns:
        float64 ``[B, K]``; rows sum to 1, or are all 0 where no neighbour has mass.
    """
    scaled = np.where(mass > 0, np.asarray(similarity, dtype=np.float64) / temperature, -np.inf)
    highest = scaled.max(axis=1, keepdims=True, initial=-np.inf)
    raised = mass * np.exp(scaled - np.where(np.isfinite(highest), highest, 0.0))
    return _normalised(raised)


def weights_of(neighbours: Neighbours, read_out: ReadOut) -> Array:
    """Return the weight of each neighbour per query, float64 ``[B, K]``.

    In the softmax a neighbour that stands for less than one row, because of its age, weighs that much less.
    """
    if read_out.pool == "ratio":
        return _normalised(neighbours.count)
    return attention(neighbours.similarity, np.minimum(neighbours.count, 1.0), read_out.temperature)


def confidence(support: Array, shrinkage: float) -> Array:
    """Return n / (n + n₀) per query, float64 ``[B]``, n being its support; 0 where there is none."""
    return np.where(support > 0, support / np.where(support > 0, support + shrinkage, 1.0), 0.0)


def _normalised(mass: Array) -> Array:
    total = mass.sum(axis=1, keepdims=True)
    return np.asarray(mass / np.where(total > 0, total, 1.0), dtype=np.float64)


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
    weights = weights_of(neighbours, read_out)
    trust = confidence(neighbours.support, read_out.shrinkage)
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
    """
    ordered = {task: np.asarray(values) for task, values in compensated.items()}
    touched = np.zeros(len(next(iter(ordered.values()))), dtype=bool) if ordered else np.zeros(0, dtype=bool)
    for task in feedback:
        touched |= ordered[task] != np.asarray(base[task], dtype=np.float64)
    for shallow, deep in pairwise(feedback):
        ordered[deep] = np.where(touched, np.minimum(ordered[deep], ordered[shallow]), ordered[deep])
    return ordered
