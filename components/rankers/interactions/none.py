"""What do towers read when fields do not meet before them? The fields side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from components.rankers.interactions.config import NoInteractionConfig
from components.rankers.parts import FieldVectors, Interaction


class NoInteraction(Interaction):
    """Concatenation of all fields."""

    def __init__(self, fields: int, width: int, extra: int, config: NoInteractionConfig) -> None:
        super().__init__()
        self.out_features = fields * width + extra
        self.extra = extra

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, F·d + N]``."""
        x = fields.vectors.flatten(start_dim=1)
        return torch.cat([x, fields.extra], dim=1) if self.extra else x
