"""PLE: what if each feedback also has experts that no other feedback can pull away?

Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
Recommendations", RecSys 2020. With one extraction layer it is their CGC.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.heads.config import PleConfig
from components.rankers.heads.experts import Experts, Gate
from components.rankers.heads.towers import FeedbackTowers, split_hidden
from components.rankers.parts import DomainPart, Head
from features.declaration import RankerSchema


class Extraction(nn.Module):
    """One extraction layer: experts per feedback and shared ones, and a gate per reader.

    A feedback's gate mixes its own and the shared experts; the shared gate, which only a layer that is
    not the last needs, mixes all of them. Experts and gates read their owner's stream of the layer before.
    """

    def __init__(
        self, in_features: int, out_features: int, feedback: int, experts: int, dropout: float, last: bool
    ) -> None:
        super().__init__()
        self.own = nn.ModuleList(Experts(experts, in_features, (out_features,), dropout) for _ in range(feedback))
        self.shared = Experts(experts, in_features, (out_features,), dropout)
        self.gates = nn.ModuleList(Gate(in_features, 2 * experts) for _ in range(feedback))
        self.shared_gate = None if last else Gate(in_features, (feedback + 1) * experts)

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        """Return the streams after this layer.

        Args:
            streams: one per feedback, float32 ``[B, in_features]``, then the shared one.

        Returns:
            One per feedback, float32 ``[B, out_features]``, then, unless this is the last layer, the shared one.
        """
        *streams, common = streams
        own = [experts(x) for experts, x in zip(self.own, streams, strict=True)]
        shared = self.shared(common)
        after = [
            gate(x, torch.cat([said, shared], dim=1)) for gate, x, said in zip(self.gates, streams, own, strict=True)
        ]
        if self.shared_gate is not None:
            after.append(self.shared_gate(common, torch.cat([*own, shared], dim=1)))
        return after


class PleHead(Head):
    """Extraction layers that separate what is shared from what is not, then a tower per feedback.

    Each layer of `hidden` but the last is one extraction layer, the last is the tower's; a lone layer is in both.
    """

    def __init__(self, in_features: int, schema: RankerSchema, config: PleConfig, domain: DomainPart) -> None:
        super().__init__()
        widths, tower = split_hidden(config.hidden)
        self.towers = FeedbackTowers(widths[-1], tower, schema, config, domain)
        feedback = len(self.towers.feedback)
        self.extractions = nn.ModuleList(
            Extraction(narrow, wide, feedback, config.experts, config.dropout, last=level == len(widths))
            for level, (narrow, wide) in enumerate(zip((in_features, *widths), widths, strict=False), start=1)
        )

    def forward(self, x: Tensor, route: Tensor) -> dict[str, Tensor]:
        """Predict; see `Head.forward`."""
        streams = [x] * (len(self.towers.feedback) + 1)
        for extraction in self.extractions:
            streams = extraction(streams)
        outputs: dict[str, Tensor] = self.towers(streams, route)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum of the feedbacks' cross-entropies."""
        return self.towers.loss(outputs, labels)
