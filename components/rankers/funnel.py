"""How do logits become the probabilities and the loss of an ordered funnel?

Ma et al., "Entire Space Multi-Task Model", SIGIR 2018, equations 1 and 2, for any number of stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from features.declaration import RankerSchema, weight_name

_LEAST_RATE = 1e-4


def logit(probability: float) -> float:
    """Return ln(p / (1 − p)), with p kept away from 0 and 1 so that a one-class split still starts finite."""
    p = min(max(probability, _LEAST_RATE), 1 - _LEAST_RATE)
    return math.log(p / (1 - p))


def stage_rates(schema: RankerSchema) -> list[float]:
    """Return the base rate of each stage of the funnel given the stage before it."""
    rates: list[float] = []
    before = 1.0
    for name in schema.declaration.feedback:
        rate = schema.base_rates.get(name, 0.5)
        rates.append(rate / before if before > 0 else 0.0)
        before = rate
    return rates


def chain(stage_logits: Sequence[Tensor]) -> list[Tensor]:
    """Return the probability of reaching each stage: Π over the first i stages of σ(z).

    Args:
        stage_logits: per stage, float ``[B]``; z_i is the logit of stage i given stage i − 1.
    """
    reached: list[Tensor] = []
    for z in stage_logits:
        p = torch.sigmoid(z)
        reached.append(p if not reached else reached[-1] * p)
    return reached


def weights_in(labels: Mapping[str, Tensor], feedback: Sequence[str]) -> list[Tensor | None]:
    """Return by feedback how much each row counts in its loss, float ``[B]``, or None where each counts once."""
    return [labels.get(weight_name(name)) for name in feedback]


def weighed(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Return ``[B]`` losses times the rows' weights."""
    return losses if weight is None else losses * weight


def funnel_loss(
    stage_logits: Sequence[Tensor], labels: Sequence[Tensor], weights: Sequence[Tensor | None] | None = None
) -> Tensor:
    """Return the sum over stages of the mean over all rows of weight times cross-entropy of reaching the stage.

    With Q_i = Π σ(z_j), j ≤ i, and the label t_i = Π y_j. Both logarithms stay exact and their
    gradients finite for any logits, because 1 − Q_i = (1 − Q_{i−1}) + Q_{i−1}·σ(−z_i) adds positive terms:

        log Q_i       = log Q_{i−1} + log σ(z_i)
        log (1 − Q_i) = logaddexp( log(1 − Q_{i−1}), log Q_{i−1} + log σ(−z_i) )

    There is no term on a conditional alone: that would be the sample-selection bias that ESMM removes.

    Args:
        stage_logits: per stage, float ``[B]``.
        labels: per stage, float ``[B]``, 0 or 1.
        weights: per stage, of `weights_in`; without it every row counts once.
    """
    total = stage_logits[0].new_zeros(())
    reached, missed, target = None, None, None
    for z, y, weight in zip(stage_logits, labels, weights or [None] * len(labels), strict=True):
        if reached is None or missed is None or target is None:
            reached, missed, target = functional.logsigmoid(z), functional.logsigmoid(-z), y
        else:
            missed = torch.logaddexp(missed, reached + functional.logsigmoid(-z))
            reached = reached + functional.logsigmoid(z)
            target = target * y
        likelihood = target * reached + (1 - target) * missed
        total = total - weighed(likelihood, weight).mean()
    return total
