"""What do towers read when fields do not meet before them? The fields side by side."""

from __future__ import annotations

from torch import Tensor

from components.rankers.interactions.config import NoInteractionConfig
from components.rankers.parts import FieldVectors, Interaction


class NoInteraction(Interaction):
    """Concatenation of all fields."""

    def __init__(self, fields: int, width: int, extra: int, config: NoInteractionConfig) -> None:
        super().__init__()
        self.out_features = fields * width + extra

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, F·d + N]``."""
        return fields.side_by_side()
