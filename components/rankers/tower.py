"""What does one task's own network look like? A multi-layer perceptron that ends in one logit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

LINE = 16
"""Floats of a cache line."""
WIDE = 128
"""Narrower products are too small to gain."""


class WideLinear(nn.Linear):
    """A linear layer whose input may have any width; its gradient costs what that of the next multiple of 16 does.

    A product whose rows are no whole cache lines is written at half the speed by MKL (AVX2, measured at 1,426 columns:
    12.2 ms against 5.5). Weights, answers and exported graphs are those of `torch.nn.Linear`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return float ``[B, out]`` of float ``[B, in]``."""
        plain = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if plain or not x.requires_grad or self.in_features < WIDE or not self.in_features % LINE:
            return super().forward(x)
        y: Tensor = _Product.apply(x, self.weight, self.bias)
        return y


class _Product(torch.autograd.Function):
    """``x Wᵀ + b``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the product."""
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of input, weight and bias."""
        x, weight = ctx.saved_tensors
        wide = functional.pad(weight, (0, -weight.shape[1] % LINE))
        return (gradients[0] @ wide)[:, : weight.shape[1]], gradients[0].t() @ x, gradients[0].sum(dim=0)


def dense_layers(in_features: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Return linear → ReLU → dropout per width of `hidden`, Xavier weights and zero biases."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise([in_features, *hidden]):
        linear = WideLinear(narrow, wide)
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
