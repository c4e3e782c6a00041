"""How is attention shared among the events that exist, and by vectors of which size?"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_NEVER = -1e30
"""Score of what must not be attended to: finite, so that a row without any event has no NaN."""
_LEAST = 1e-6
"""Far below the size of a fresh embedding, so that vectors of any trained size count by their direction."""


def masked_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """Return the softmax over the last axis of what is allowed, exactly zero elsewhere.

    Args:
        scores: float32 ``[..., L]``; L may be 0.
        allowed: float32, broadcast to `scores`: 1 where there is something to attend to, 0 elsewhere. A row
            without a 1 gets zeros.
    """
    weights = torch.softmax(scores.masked_fill(allowed == 0, _NEVER), dim=-1)
    return weights * allowed


def of_size_one(vectors: Tensor, least: float | Tensor = _LEAST) -> Tensor:
    """Return float32 ``[..., d]`` divided by their root mean square; zero stays zero.

    Products of such vectors differ by what they mean and not by how far training has moved them from zero, so that a
    softmax of their products is neither flat at the start nor one-hot later.

    Args:
        vectors: float32 ``[..., d]``.
        least: size below which a vector stays small in proportion, so that rare values stay quiet.
    """
    return vectors * torch.rsqrt(vectors.square().mean(dim=-1, keepdim=True) + least**2)


def summed_for_each(weights: Tensor, events: Tensor) -> Tensor:
    """Return float32 ``[..., N, d]``, what the same L events add up to for each of N readers.

    Args:
        weights: float32 ``[..., N, L]``; L may be 0.
        events: float32 ``[..., L, d]``.
    """
    # One more place: a product over an empty history is not defined in every runtime.
    return functional.pad(weights, (0, 1)) @ functional.pad(events, (0, 0, 0, 1))


class AttentionLayer(nn.Module):
    """Weights of ``x + attention(norm(x))``, then ``x + feed-forward(norm(x))``; who reads whom is each layer's own.

    A head is ⌈d / heads⌉ wide.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.narrow = heads, math.ceil(width / heads)
        self.before_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * self.narrow, bias=False)
        self.key = nn.Linear(width, heads * self.narrow, bias=False)
        self.value = nn.Linear(width, heads * self.narrow, bias=False)
        self.mix = nn.Linear(heads * self.narrow, width)
        self.before_forward = nn.LayerNorm(width)
        self.forward_layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def split(self, x: Tensor) -> Tensor:
        """Return ``[B, H, S, d_h]`` of ``[B, S, H·d_h]``."""
        return x.unflatten(2, (self.heads, self.narrow)).transpose(1, 2)

    def finish(self, x: Tensor, read: Tensor) -> Tensor:
        """Return tokens ``[B, S, d]`` after this layer, given what their heads have read, ``[B, H, S, d_h]``."""
        x = x + self.dropout(self.mix(read.transpose(1, 2).flatten(start_dim=2)))
        return x + self.dropout(self.forward_layers(self.before_forward(x)))
