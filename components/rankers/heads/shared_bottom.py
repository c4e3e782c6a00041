"""Shared-Bottom: what if all feedback types read one hidden representation?

Caruana, "Multitask Learning", 1997; the baseline of Ma et al., KDD 2018: ``y_k = h_k(f(x))``.
"""

from __future__ import annotations

from torch import Tensor

from components.rankers.heads.config import SharedBottomConfig
from components.rankers.heads.towers import FeedbackTowers, split_hidden
from components.rankers.parts import DomainPart, Head
from components.rankers.tower import dense_layers
from features.declaration import RankerSchema


class SharedBottomHead(Head):
    """One bottom network, then a tower per feedback.

    All layers of `hidden` but the last are the bottom, the last is the tower's; a lone layer is in both.
    """

    def __init__(self, in_features: int, schema: RankerSchema, config: SharedBottomConfig, domain: DomainPart) -> None:
        super().__init__()
        widths, tower = split_hidden(config.hidden)
        self.bottom = dense_layers(in_features, widths, config.dropout)
        self.towers = FeedbackTowers(widths[-1], tower, schema, config, domain)

    def forward(self, x: Tensor, route: Tensor) -> dict[str, Tensor]:
        """Predict; see `Head.forward`."""
        shared = self.bottom(x)
        outputs: dict[str, Tensor] = self.towers([shared] * len(self.towers.feedback), route)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum of the feedbacks' cross-entropies."""
        return self.towers.loss(outputs, labels)
