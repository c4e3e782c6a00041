"""What is a policy worth, judged by another policy's log? Four estimators, each a ratio of two sums over rows.

n rows with context x, shown item a, reward r and propensity p = P(a | x) under the log's policy; a target policy
π; weight w = π(a | x) / p. With a reward model q(x, a):

* IPS: mean of w·r (Horvitz and Thompson 1952);
* SNIPS: Σ w·r / Σ w (Swaminathan and Joachims 2015), steadier, biased by O(1/n);
* direct method: mean of Σₐ π(a | x)·q(x, a), as wrong as q;
* doubly robust: mean of Σₐ π(a | x)·q(x, a) + w·(r − q(x, a)) (Dudík, Langford and Li 2011), right when the
  propensities or q are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.platform.errors import BadInputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Logged:
    """What a log says about n impressions."""

    reward: Floats
    """float64 ``[n]``."""
    propensity: Floats
    """float64 ``[n]``, in (0, 1]."""
    shown: Integers
    """int64 ``[n]``, index of the shown item among the K candidates."""


@dataclass(frozen=True)
class Ratio:
    """A value Σ above / Σ below, both float64 ``[n]``."""

    above: Floats
    below: Floats

    @property
    def value(self) -> float:
        """The ratio over every row."""
        return float(self.above.sum() / self.below.sum())


def check_propensities(propensity: Floats, what: str) -> None:
    """Check that every propensity is a chance that something that happened can have had.

    Raises:
        BadInputError: one is missing or outside (0, 1].
    """
    wrong = ~((propensity > 0) & (propensity <= 1))
    if wrong.any():
        raise BadInputError(
            f"{int(wrong.sum()):,} of {propensity.size:,} propensities in column {what!r} are not in (0, 1], such as "
            f"{propensity[wrong][0]:g}: what was shown had such a chance, so fix the log at ingestion"
        )


def weights(target: Floats, logged: Logged) -> Floats:
    """Return float64 ``[n]`` weights π(a | x) / p of the shown items.

    Args:
        target: ``[n, K]`` probabilities of the target policy.
        logged: the log.
    """
    return _of_shown(target, logged) / logged.propensity


def effective_rows(weight: Floats) -> float:
    """Return (Σ w)² / Σ w², Kish's effective sample size; 0 when every weight is 0."""
    squared = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / squared if squared else 0.0


def ips(weight: Floats, logged: Logged) -> Ratio:
    """Return inverse propensity scoring."""
    return Ratio(weight * logged.reward, np.ones_like(weight))


def snips(weight: Floats, logged: Logged) -> Ratio:
    """Return self-normalised inverse propensity scoring."""
    return Ratio(weight * logged.reward, weight)


def direct(target: Floats, predicted: Floats) -> Ratio:
    """Return the direct method.

    Args:
        target: ``[n, K]`` probabilities of the target policy.
        predicted: ``[n, K]`` rewards by the reward model.
    """
    return Ratio(np.einsum("nk,nk->n", target, predicted), np.ones(len(target)))


def correction(weight: Floats, logged: Logged, predicted: Floats) -> Ratio:
    """Return the weighted mean of what the reward model did not predict."""
    return Ratio(weight * (logged.reward - _of_shown(predicted, logged)), np.ones_like(weight))


def doubly_robust(target: Floats, weight: Floats, logged: Logged, predicted: Floats) -> Ratio:
    """Return the doubly robust estimate: the direct method and its correction."""
    above = direct(target, predicted).above + correction(weight, logged, predicted).above
    return Ratio(above, np.ones_like(weight))


def _of_shown(matrix: Floats, logged: Logged) -> Floats:
    return np.asarray(np.take_along_axis(matrix, logged.shown[:, None], axis=1)[:, 0], dtype=np.float64)
