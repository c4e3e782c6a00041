"""What do experts say about a row, and in which proportions does it mix them?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.rankers.tower import dense_layers


class Experts(nn.Module):
    """Networks of one shape that read the same input."""

    def __init__(self, count: int, in_features: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.each = nn.ModuleList(dense_layers(in_features, hidden, dropout) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 ``[B, n, hidden[-1]]`` of ``[B, in_features]``."""
        return torch.stack([expert(x) for expert in self.each], dim=1)


class Gate(nn.Module):
    """``Σ_i g_i f_i`` with ``g = softmax(W x)``: the gating network of Ma et al., KDD 2018."""

    def __init__(self, in_features: int, experts: int) -> None:
        super().__init__()
        self.choose = nn.Linear(in_features, experts, bias=False)
        nn.init.xavier_uniform_(self.choose.weight)

    def forward(self, x: Tensor, said: Tensor) -> Tensor:
        """Return float32 ``[B, H]``.

        Args:
            x: float32 ``[B, in_features]``.
            said: float32 ``[B, n, H]``, what each expert says.
        """
        weights = torch.softmax(self.choose(x), dim=1)
        return torch.bmm(weights.unsqueeze(1), said).squeeze(1)
