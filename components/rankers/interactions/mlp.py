"""What if fields meet in a network that all feedback types share? The plain deep interaction."""

from __future__ import annotations

from torch import Tensor

from components.rankers.interactions.config import MlpConfig
from components.rankers.parts import FieldVectors, Interaction
from components.rankers.tower import dense_layers


class Mlp(Interaction):
    """Concatenation of all fields, then `layers` layers as wide as the towers' first."""

    def __init__(self, fields: int, width: int, extra: int, config: MlpConfig) -> None:
        super().__init__()
        self.out_features = config.hidden[0]
        widths = [self.out_features] * config.layers
        self.layers = dense_layers(fields * width + extra, widths, config.dropout)

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, hidden[0]]``."""
        x: Tensor = self.layers(fields.side_by_side())
        return x
