"""What if every feedback has a network of its own over shared embeddings? The plain baseline."""

from __future__ import annotations

from torch import Tensor

from components.rankers.heads.config import SingleConfig
from components.rankers.heads.towers import FeedbackTowers, per_feedback
from components.rankers.parts import DomainPart, Head
from features.declaration import RankerSchema


class SingleHead(Head):
    """One tower per feedback; nothing above the embeddings and the interaction is shared."""

    def __init__(self, in_features: int, schema: RankerSchema, config: SingleConfig, domain: DomainPart) -> None:
        super().__init__()
        self.towers = FeedbackTowers(in_features, config.hidden, schema, config, domain)

    def forward(self, x: Tensor | tuple[Tensor, ...], route: Tensor) -> dict[str, Tensor]:
        """Predict; see `Head.forward`."""
        outputs: dict[str, Tensor] = self.towers(per_feedback(x, len(self.towers.feedback)), route)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum of the feedbacks' cross-entropies."""
        return self.towers.loss(outputs, labels)
