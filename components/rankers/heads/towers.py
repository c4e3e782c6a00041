"""How does each feedback answer from an input of its own? One tower per feedback, whatever feeds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.rankers.config import RankerConfig
from components.rankers.funnel import logit
from components.rankers.heads.single import answers, entropy_loss
from components.rankers.parts import DomainPart
from components.rankers.tasks import HIDDEN, tasks_of
from features.declaration import RankerSchema


def split_hidden(hidden: Sequence[int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the widths below the towers and of the towers: the last layer is the tower's, a lone one is both."""
    widths = tuple(hidden or (64,))
    return widths[:-1] or widths, widths[-1:]


class FeedbackTowers(nn.Module):
    """One tower per feedback over an input per feedback.

    Args:
        in_features: width of each input.
        schema: feedback and base rates.
        config: completed config; the last of `hidden` is the tower's layer.
        domain: makes the towers.
    """

    def __init__(self, in_features: int, schema: RankerSchema, config: RankerConfig, domain: DomainPart) -> None:
        super().__init__()
        self.feedback = schema.declaration.feedback
        self.tasks = tasks_of(schema.declaration)
        _, hidden = split_hidden(config.hidden)
        self.each = nn.ModuleList(
            domain.tower(in_features, hidden, config.dropout or 0.0, bias=logit(schema.base_rates.get(name, 0.5)))
            for name in self.feedback
        )

    def forward(self, inputs: Sequence[Tensor], route: Tensor) -> dict[str, Tensor]:
        """Predict; see `Head.forward`.

        Args:
            inputs: per feedback, float32 ``[B, in_features]``.
            route: int64 ``[B]``.
        """
        pairs = [tower(x, route) for tower, x in zip(self.each, inputs, strict=True)]
        outputs = answers({name: z for name, (z, _) in zip(self.feedback, pairs, strict=True)}, self.tasks)
        outputs[HIDDEN] = torch.cat([hidden for _, hidden in pairs], dim=1)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum over feedback types of the mean cross-entropy over all rows."""
        return entropy_loss(outputs, labels, self.feedback)
