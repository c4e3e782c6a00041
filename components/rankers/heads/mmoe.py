"""MMoE: what if each feedback mixes common experts in its own proportions?

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018:
``y_k = h_k(Σ_i g_k(x)_i f_i(x))`` with ``g_k(x) = softmax(W_k x)``.
"""

from __future__ import annotations

from torch import Tensor, nn

from components.rankers.heads.config import MmoeConfig
from components.rankers.heads.experts import Experts, Gate
from components.rankers.heads.towers import FeedbackTowers, split_hidden
from components.rankers.parts import DomainPart, Head
from features.declaration import RankerSchema


class MmoeHead(Head):
    """`experts` networks that all feedback types share; a gate and a tower per feedback.

    All layers of `hidden` but the last are an expert's, the last is the tower's; a lone layer is in both.
    """

    def __init__(self, in_features: int, schema: RankerSchema, config: MmoeConfig, domain: DomainPart) -> None:
        super().__init__()
        widths, tower = split_hidden(config.hidden)
        count = config.experts
        self.experts = Experts(count, in_features, widths, config.dropout)
        self.towers = FeedbackTowers(widths[-1], tower, schema, config, domain)
        self.gates = nn.ModuleList(Gate(in_features, count) for _ in self.towers.feedback)

    def forward(self, x: Tensor, route: Tensor) -> dict[str, Tensor]:
        """Predict; see `Head.forward`."""
        said = self.experts(x)
        outputs: dict[str, Tensor] = self.towers([gate(x, said) for gate in self.gates], route)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum of the feedbacks' cross-entropies."""
        return self.towers.loss(outputs, labels)
