"""How is a part taught what the ranker's own loss does not reach? By a tower of its own, whose loss is added.

A search that keeps some of many events has no gradient: nothing tells it that it kept the wrong ones. So what it
searches by predicts the feedback by itself as well, from all events (Pi et al., CIKM 2020, §3.1: the loss of the search
stage beside that of the ranker).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.config import ComposedConfig
from components.rankers.funnel import logit
from components.rankers.heads.towers import entropy_loss, split_hidden
from components.rankers.parts import SequenceEncoder
from components.rankers.tasks import LOGIT
from components.rankers.tower import Tower
from features.declaration import RankerSchema


class AuxiliaryTower(nn.ModuleList):
    """A tower per feedback over what one encoder leaves; as wide as the last hidden layer of the ranker."""

    def __init__(self, encoder: SequenceEncoder, schema: RankerSchema, config: ComposedConfig) -> None:
        self.feedback = schema.declaration.feedback
        self.weight = encoder.auxiliary_weight
        rates = [schema.base_rates.get(name, 0.5) for name in self.feedback]
        _, hidden = split_hidden(config.hidden)
        super().__init__(Tower(encoder.auxiliary_features, hidden, config.dropout, bias=logit(rate)) for rate in rates)

    def forward(self, left: Tensor) -> Tensor:
        """Return a logit per feedback, float32 ``[B, T]``, from what the encoder left, float32 ``[B, n]``."""
        return torch.stack([tower(left)[0] for tower in self], dim=1)

    def loss(self, logits: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum over feedback types of the mean cross-entropy; see `RankerModule.loss`."""
        named = {name + LOGIT: z for name, z in zip(self.feedback, logits.unbind(dim=1), strict=True)}
        return self.weight * entropy_loss(named, labels, self.feedback)
