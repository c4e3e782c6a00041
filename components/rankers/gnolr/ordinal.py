"""How do ordered feedbacks become thresholds, categories, nested logits and one loss?

Zhang et al., "Generalized Neural Ordinal Logistic Regression" (GNOLR), KDD 2025, arXiv 2505.20900.
T feedbacks, dense and shallow first, make T + 1 ordered categories: k = 1 where nothing happened,
k = c + 1 where feedback c is the deepest that did. The model is ``P(k > c) = σ(z_c)`` with

    z_c = Σ_{j ≤ c} γ_j · cos_j − a_c

where cos_j compares the user with the item as sub-embeddings made for feedback j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.refusals import gamma_of_another_length, gamma_that_is_no_scale

SHARE_OF_GAP = 0.9
"""Default scale of a deeper feedback, as a share of the gap between thresholds that it must stay below."""
LEAST_FIRST, MOST_FIRST = 2.5, 7.0
"""Range of the first feedback's default scale: what the authors use for balanced and for rare feedback."""
_LEAST_DIFFERENCE = 1e-7


def thresholds(feedback: Sequence[str], rates: Mapping[str, float]) -> tuple[float, ...]:
    """Return a_c = −log(p_c / (1 − p_c)), so that the model answers the base rate where every cosine is 0.

    Args:
        feedback: T names, shallow to deep.
        rates: share of positives per feedback in the training split.

    Returns:
        T strictly increasing numbers.

    Raises:
        BadInputError: a rate is missing, or 0 or 1, or not below the rate before it.
    """
    for name in feedback:
        if not 0 < rates.get(name, 0.0) < 1:
            raise BadInputError(
                f"ranker 'gnolr' needs a base rate between 0 and 1 of every feedback, {name!r} has "
                f"{rates.get(name, 'none')}: widen the window, or leave {name!r} out of feedback"
            )
    for shallow, deep in pairwise(feedback):
        if rates[deep] >= rates[shallow]:
            raise BadInputError(
                f"ranker 'gnolr' needs feedback from dense to sparse, but {deep!r} has the base rate "
                f"{rates[deep]:.4g} and {shallow!r} before it {rates[shallow]:.4g}: order feedback by how often it "
                "happens, or choose another ranker"
            )
    return tuple(-math.log(rates[name] / (1 - rates[name])) for name in feedback)


def scales(feedback: Sequence[str], a: Sequence[float], given: Sequence[float] | None) -> tuple[float, ...]:
    """Return γ of each feedback: the given ones if they keep the order of probabilities, else defaults.

    ``z_{c−1} − z_c = (a_c − a_{c−1}) − γ_c · cos_c``, and cos_c ≤ 1, so ``γ_c < a_c − a_{c−1}`` makes a
    deeper feedback less probable everywhere. γ_1 is free.

    Raises:
        BadInputError: `given` has another length, is not positive, or breaks the rule.
    """
    gaps = [deep - shallow for shallow, deep in pairwise(a)]
    if given is None:
        first = min(max(1.5 * abs(a[0]), LEAST_FIRST), MOST_FIRST)
        return (first, *(SHARE_OF_GAP * gap for gap in gaps))
    if reason := gamma_of_another_length(feedback, given):
        raise BadInputError(reason)
    for reason in gamma_that_is_no_scale(feedback, given).values():
        raise BadInputError(reason)
    for (shallow, deep), gamma, gap in zip(pairwise(feedback), given[1:], gaps, strict=True):
        if gamma >= gap:
            raise BadInputError(
                f"gamma of {deep!r} is {gamma:.6g} but must be below {gap:.6g}, the gap between the thresholds of "
                f"{shallow!r} and {deep!r}: lower it, or leave gamma out"
            )
    return tuple(given)


def categories(labels: Tensor) -> Tensor:
    """Return k, int64 ``[B]`` in 1 … T + 1: the deepest positive counts, whatever lies before it.

    Args:
        labels: float ``[B, T]``, 0 or 1, shallow to deep.
    """
    ranks = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    return torch.where(labels > 0, ranks, 0).amax(dim=1) + 1


def nested_logits(cosines: Tensor, gamma: Tensor, a: Tensor) -> Tensor:
    """Return z, float ``[B, T]``: each scale goes onto its cosine before the sum, not onto the sum.

    Args:
        cosines: float ``[B, T]``.
        gamma: float ``[T]``.
        a: float ``[T]``.
    """
    return torch.cumsum(gamma * cosines, dim=1) - a


def log_difference(shallow: Tensor, deep: Tensor) -> Tensor:
    """Return log(σ(shallow) − σ(deep)) for shallow > deep, exact where the difference of σ would be 0.

    ``log σ(x) + log σ(−y) + log(1 − e^{−(x − y)})``. Logits closer than 1e-7 count as that far apart.

    Args:
        shallow: logits, any shape.
        deep: logits, same shape.
    """
    apart = (shallow - deep).clamp(min=_LEAST_DIFFERENCE)
    return functional.logsigmoid(shallow) + functional.logsigmoid(-deep) + torch.log(-torch.expm1(-apart))


def nested_losses(z: Tensor, k: Tensor) -> Tensor:
    """Return the loss of each row, float ``[B]``: Σ_t −log P_t(min(k, t + 1)).

    Sub-task t knows the categories 1 … t + 1, all deeper ones collapsed into its last:
    ``P_t(1) = 1 − σ(z_1)``, ``P_t(c) = σ(z_{c−1}) − σ(z_c)``, ``P_t(t + 1) = σ(z_t)``. Of the T sub-tasks,
    a row of category k meets ``σ(z_t)`` in those with t < k, and its own category in the T − k + 1 others.

    Args:
        z: float ``[B, T]``, falling along T.
        k: int64 ``[B]``, see `categories`.
    """
    depth = z.shape[1]
    stage = torch.arange(1, depth + 1, device=z.device)
    category = k.unsqueeze(1)
    reached = torch.where(category > stage, functional.logsigmoid(z), 0.0).sum(dim=1)
    nothing = torch.where(k == 1, depth * functional.logsigmoid(-z[:, 0]), 0.0)
    # Column c − 2 holds category c = 2 … T.
    between = (depth - stage[1:] + 1) * log_difference(z[:, :-1], z[:, 1:])
    stopped = torch.where(category == stage[1:], between, 0.0).sum(dim=1)
    return -(reached + nothing + stopped)
