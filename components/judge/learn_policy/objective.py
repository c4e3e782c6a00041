"""What is a softmax policy worth by another policy's log, in a form that has gradients? The estimators row by row.

Each function returns terms ``[n]`` whose mean is the estimate and whose variance is that of the estimate times n, so
that one expression gives the value, its standard error and the gradients of both:

* ips: w·r;
* snips: S + w·(r − S) / mean w, with S = Σ w·r / Σ w: the linear form of the ratio, with the ratio's gradient;
* dr: Σₖ πₖ·qₖ + w·(r − q of what was chosen) (Dudík, Langford and Li 2011).

w = π(a | x) / p. Adding a constant to every reward moves snips, and dr with a q that is moved too, by that constant and
no gradient; ips it changes: where all rewards are positive, ips likes what the log rarely did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Objective = Literal["dr", "snips", "ips"]


@dataclass(frozen=True)
class Batch:
    """n rows of the log."""

    chosen: Tensor
    """int64 ``[n]``, place of the action."""
    propensity: Tensor
    """float64 ``[n]``."""
    reward: Tensor
    """float64 ``[n]``."""
    expected: Tensor
    """float64 ``[n, A]``, q: reward of every action by a model that has not seen the row."""


def policy_of(scores: Tensor, allowed: Tensor, temperature: float, floor: float) -> Tensor:
    """Return chances ``[n, A]``: the softmax of what may be done, mixed with a uniform choice.

    Args:
        scores: ``[n, A]``.
        allowed: bool ``[n, A]``.
        temperature: scores are divided by it.
        floor: share of the uniform choice.
    """
    chosen = torch.softmax(torch.where(allowed, scores / temperature, -torch.inf), dim=1)
    uniform = allowed / allowed.sum(dim=1, keepdim=True)
    return chosen * (1.0 - floor) + uniform * floor


def terms(chance: Tensor, batch: Batch, objective: Objective, clip: float | None = None) -> Tensor:
    """Return ``[n]`` terms whose mean is the estimated value of the policy.

    Args:
        chance: ``[n, A]`` of the policy.
        batch: the rows.
        objective: which estimate.
        clip: largest weight; rows above it have no gradient through their weight.
    """
    weight = _of_chosen(chance, batch) / batch.propensity
    if clip is not None:
        weight = weight.clamp(max=clip)
    if objective == "ips":
        return weight * batch.reward
    if objective == "snips":
        value = (weight * batch.reward).sum() / weight.sum()
        return value + weight * (batch.reward - value) / weight.mean()
    direct = (chance * batch.expected).sum(dim=1)
    return direct + weight * (batch.reward - _of_chosen(batch.expected, batch))


def lower_bound(found: Tensor, pessimism: float, rows: int) -> Tensor:
    """Return the mean of terms minus so many standard errors of the mean over `rows` rows like these."""
    if pessimism == 0 or found.numel() < 2:
        return found.mean()
    return found.mean() - pessimism * (found.var() / rows).clamp(min=1e-24).sqrt()


def _of_chosen(matrix: Tensor, batch: Batch) -> Tensor:
    return matrix.gather(1, batch.chosen[:, None])[:, 0]
