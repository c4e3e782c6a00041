"""DCN V2: how do products of features of any order enter explicitly?

Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021, equation 1:
``x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l``, with a full matrix W_l.

Here W_l reads each field of x_l divided by its root mean square, and numbers as they are. Embeddings start near zero,
where products of two of them are silent for longer than most trainings last; x_0 and the sum stay as small as they
are, and a vector as small as a fresh one counts less, so that rare values stay quiet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.interactions.config import DcnV2Config
from components.rankers.parts import FieldVectors, Interaction
from components.rankers.sequences.attention import of_size_one

_FRESH = 3.0
"""Times a fresh vector's size: a vector of that size is read as 0.7 of its direction, a fresh one as a third."""


class DcnV2(Interaction):
    """`layers` cross layers over the concatenation of all fields; layer l holds products of up to l + 1 features.

    The stacked structure of the paper: the towers are the deep network and read x_L.
    """

    least: Tensor

    def __init__(self, fields: int, width: int, extra: int, config: DcnV2Config) -> None:
        super().__init__()
        self.fields, self.width = fields, width
        # Kept beside the weights, so that those of another formula do not load.
        self.register_buffer("least", torch.tensor(_FRESH * config.start))
        self.out_features = fields * width + extra
        self.crosses = nn.ModuleList(self._cross() for _ in range(config.layers))

    def _cross(self) -> nn.Linear:
        linear = nn.Linear(self.out_features, self.out_features)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        return linear

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, F·d + N]``."""
        first = fields.side_by_side()
        x = first
        for cross in self.crosses:
            x = first * cross(self._sized(x)) + x
        return x

    def _sized(self, x: Tensor) -> Tensor:
        """Return `x` with each field's d numbers brought to one size; the N others as they are."""
        vectors, numbers = x.split([self.fields * self.width, x.shape[1] - self.fields * self.width], dim=1)
        sized = of_size_one(vectors.unflatten(1, (self.fields, self.width)), self.least) if self.fields else vectors
        return torch.cat([sized.flatten(start_dim=1), numbers], dim=1)
