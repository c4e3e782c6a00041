"""What does one task's own network look like? A multi-layer perceptron that ends in one logit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def dense_layers(in_features: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Return linear → ReLU → dropout per width of `hidden`, Xavier weights and zero biases."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise([in_features, *hidden]):
        linear = nn.Linear(narrow, wide)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def exact(values: Tensor) -> Tensor:
    """Return `values` in float32 at least.

    What is made of a logit (products of probabilities, log-sums) needs more digits than bfloat16 has.
    """
    return values.float() if values.dtype == torch.bfloat16 else values


class Tower(nn.Module):
    """Linear → ReLU → dropout per hidden layer, then one logit (BASE network of Ma et al. 2018, §3)."""

    def __init__(self, in_features: int, hidden: Sequence[int], dropout: float = 0.0, bias: float = 0.0) -> None:
        super().__init__()
        self.layers = dense_layers(in_features, hidden, dropout)
        self.head = nn.Linear([in_features, *hidden][-1], 1)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.constant_(self.head.bias, bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit ``[B]`` and the last hidden layer ``[B, hidden[-1]]``."""
        hidden = self.layers(x)
        return exact(self.head(hidden).squeeze(1)), hidden
