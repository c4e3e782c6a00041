"""AutoInt: which fields should be combined, as the row itself decides?

Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019:
every field, a number too, is an embedding, and interacting layers let fields attend to each other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.config import RankerConfig
from components.rankers.parts import FieldVectors, Interaction


class InteractingLayer(nn.Module):
    """Multi-head attention among fields: ``ReLU(concat_h softmax(q kᵀ) v + W_res e)``, without scaling by 1/√d.

    Args:
        in_features: width of a field before.
        width: width of one head.
        heads: number of heads; a field is ``heads · width`` wide after.
    """

    def __init__(self, in_features: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(in_features, heads * width, bias=False)
        self.key = nn.Linear(in_features, heads * width, bias=False)
        self.value = nn.Linear(in_features, heads * width, bias=False)
        self.residual = nn.Linear(in_features, heads * width, bias=False)
        for linear in (self.query, self.key, self.value, self.residual):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, e: Tensor) -> Tensor:
        """Return float32 ``[B, F, heads · width]`` of ``[B, F, in_features]``."""
        query, key, value = (
            linear(e).unflatten(2, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        attended = torch.softmax(query @ key.transpose(2, 3), dim=3) @ value
        return torch.relu(attended.transpose(1, 2).flatten(start_dim=2) + self.residual(e))


class AutoInt(Interaction):
    """`layers` interacting layers over the fields; a number x is the field ``x · v`` with a learned v.

    The towers read the fields after attention next to the raw ones: the joint network that the paper
    calls AutoInt+, except that the two halves meet before the deep layers.

    Args:
        fields: F, number of field vectors.
        width: d, their width, and the width of a head.
        extra: N, other numbers.
        config: completed config: `layers`, `heads`.
    """

    def __init__(self, fields: int, width: int, extra: int, config: RankerConfig) -> None:
        super().__init__()
        self.fields = fields
        heads = config.heads or 1
        slopes = torch.randn(extra, width) * (config.embedding_std or 0.01)
        self.slopes = nn.Parameter(slopes) if extra else None
        widths = [width, *[heads * width] * (config.layers or 1)]
        self.layers = nn.Sequential(*(InteractingLayer(narrow, width, heads) for narrow in widths[:-1]))
        self.out_features = (fields + extra) * widths[-1] + fields * width + extra

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, (F + N)·heads·d + F·d + N]``: after attention, then raw."""
        tokens = [fields.vectors] if self.fields else []
        if self.slopes is not None:
            tokens.append(fields.extra.unsqueeze(2) * self.slopes)
        attended = self.layers(torch.cat(tokens, dim=1)).flatten(start_dim=1)
        return torch.cat([attended, fields.vectors.flatten(start_dim=1), fields.extra], dim=1)
