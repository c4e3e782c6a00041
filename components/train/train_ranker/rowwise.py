"""How do the touched rows of a table change? Adagrad and Adam with one adaptive step size per row.

Row-wise Adagrad of Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning
Recommendation Models", ISCA 2022, §4.1.1: the mean of a row's squared gradients stands for all of its weights, which
shrinks the optimiser's memory by the width of the table. Rows that a step did not read are not visited.

Mini-batch aware regularisation (Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, §5.1)
draws a row j that a step read to zero by ``λ / n_j``, n_j the training rows that hold its value. Here that joins the
gradient before its size is adapted, so that useful λ lie near 1 instead of near 0.01.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from components.rankers.embedding.sparse_gradient import roomy_zeros

EPSILON = 1e-8
BETAS = (0.9, 0.999)


class RowOptimiser(Protocol):
    """What trains the rows of one table."""

    def step(self, rows: Tensor, gradients: Tensor, go: Tensor | None = None) -> None:
        """Change `rows`, int64 ``[U]``, by float32 gradients ``[U, d]``.

        A row may be repeated with the same gradient, and changes once. `go`, float32 ``[]``, is 1 or, where no weight
        may change whatever the gradients are, 0; left out, 1.
        """

    def state(self) -> dict[str, Tensor]:
        """Return everything that a later step depends on, by name."""


class RowwiseAdagrad:
    """``s_r += mean(g_r²)``, ``w_r −= η g_r / (√s_r + ε)``: one float per row.

    Args:
        weight: float32 ``[V, d]``, changed in place.
        learning_rate: η.
        decay: L2 penalty on touched rows.
        penalties: float32 ``[V]``, more of it by row; None for none.
    """

    def __init__(self, weight: Tensor, learning_rate: float, decay: float, penalties: Tensor | None = None) -> None:
        self.weight, self.rate, self.decay, self.penalties = weight.detach(), learning_rate, decay, penalties
        self.squares = roomy_zeros(weight.shape[0]).to(weight.device)

    def state(self) -> dict[str, Tensor]:
        """Return the sums of squares, float32 ``[V]``."""
        return {"squares": self.squares}

    @torch.no_grad()
    def step(self, rows: Tensor, gradients: Tensor, go: Tensor | None = None) -> None:
        """Change touched rows; see `RowOptimiser.step`."""
        kept = self.weight.index_select(0, rows)
        gradients = drawn(_allowed(gradients, go), kept, self.decay, _of(self.penalties, rows))
        squares = self.squares.index_select(0, rows).add_(_mean_square(gradients))
        self.squares.index_copy_(0, rows, squares)
        scale = _times(squares.sqrt_().add_(EPSILON).reciprocal_().unsqueeze(1), go)
        self.weight.index_copy_(0, rows, kept.addcmul_(gradients, scale, value=-self.rate))


class RowwiseAdam:
    """Adam with a moment per weight and a second moment per row, both moved only when the row is read.

    Bias correction follows the number of steps, as in dense Adam.
    """

    def __init__(self, weight: Tensor, learning_rate: float, decay: float, penalties: Tensor | None = None) -> None:
        self.weight, self.rate, self.decay, self.penalties = weight.detach(), learning_rate, decay, penalties
        self.moments = roomy_zeros(*weight.shape).to(weight.device)
        self.squares = roomy_zeros(weight.shape[0]).to(weight.device)
        self.steps = torch.zeros((), dtype=torch.int64)

    def state(self) -> dict[str, Tensor]:
        """Return moments, second moments and the number of steps."""
        return {"moments": self.moments, "squares": self.squares, "steps": self.steps}

    @torch.no_grad()
    def step(self, rows: Tensor, gradients: Tensor, go: Tensor | None = None) -> None:
        """Change touched rows; see `RowOptimiser.step`."""
        self.steps += 1
        kept = self.weight.index_select(0, rows)
        gradients = drawn(_allowed(gradients, go), kept, self.decay, _of(self.penalties, rows))
        first, second = BETAS
        moments = self.moments.index_select(0, rows).lerp_(gradients, 1 - first)
        squares = self.squares.index_select(0, rows).lerp_(_mean_square(gradients), 1 - second)
        self.moments.index_copy_(0, rows, moments)
        self.squares.index_copy_(0, rows, squares)
        taken = int(self.steps)
        scale = _times((squares / (1 - second**taken)).sqrt_().add_(EPSILON).reciprocal_().unsqueeze(1), go)
        self.weight.index_copy_(0, rows, kept.addcmul_(moments, scale, value=-self.rate / (1 - first**taken)))


def drawn(gradients: Tensor, kept: Tensor, decay: float, penalties: Tensor | None) -> Tensor:
    """Return gradients float32 ``[U, d]`` that also draw the rows ``[U, d]`` to zero, all and each by its ``[U]``."""
    if decay:
        gradients = gradients.add(kept, alpha=decay)
    return gradients if penalties is None else torch.addcmul(gradients, kept, penalties.unsqueeze(1))


def _of(penalties: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if penalties is None else penalties.index_select(0, rows)


def _allowed(gradients: Tensor, go: Tensor | None) -> Tensor:
    """Return the gradients, or zeros where `go` is 0: zero times what is no number would be none."""
    return gradients if go is None else torch.where(go > 0, gradients, 0.0)


def _times(scale: Tensor, go: Tensor | None) -> Tensor:
    return scale if go is None else scale.mul_(go)


def _mean_square(gradients: Tensor) -> Tensor:
    """Return float32 ``[U]`` of ``[U, d]``."""
    return torch.linalg.vecdot(gradients, gradients) / gradients.shape[1]


ROWWISE: dict[str, type[RowwiseAdagrad] | type[RowwiseAdam]] = {
    "rowwise_adagrad": RowwiseAdagrad,
    "rowwise_adam": RowwiseAdam,
}
