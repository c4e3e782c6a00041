"""DCN V2: how do products of features of any order enter explicitly?

Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021, equation 1:
``x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l``, with a full matrix W_l.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.config import RankerConfig
from components.rankers.parts import FieldVectors, Interaction


class DcnV2(Interaction):
    """`layers` cross layers over the concatenation of all fields; layer l holds products of up to l + 1 features.

    The stacked structure of the paper: the towers are the deep network and read x_L.

    Args:
        fields: F, number of field vectors.
        width: d, their width.
        extra: N, other numbers.
        config: completed config: `layers`.
    """

    def __init__(self, fields: int, width: int, extra: int, config: RankerConfig) -> None:
        super().__init__()
        self.out_features = fields * width + extra
        self.crosses = nn.ModuleList(self._cross() for _ in range(config.layers or 1))

    def _cross(self) -> nn.Linear:
        linear = nn.Linear(self.out_features, self.out_features)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        return linear

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, F·d + N]``."""
        first = torch.cat([fields.vectors.flatten(start_dim=1), fields.extra], dim=1)
        x = first
        for cross in self.crosses:
            x = first * cross(x) + x
        return x
