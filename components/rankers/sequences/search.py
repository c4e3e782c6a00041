"""Which few of many events are the best, the same ones in training, in a graph and on any machine?

Scores that decide are whole numbers, made of rounded vectors whose every sum is exact in float32. So events of the same
value are exactly alike, and of those the newest are kept, wherever it is computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from components.rankers.sequences.attention import of_size_one
from components.rankers.sequences.hashing import EXACT

_PLACES = 2**16
"""More than the events of any history."""
_MISSING = -(2**40)
"""Less than the worth of any event."""


def best(worth: Tensor, mask: Tensor, keep: int) -> Tensor:
    """Return int64 ``[B, min(keep, L)]``, ascending: which events are kept, what is missing after all others.

    Args:
        worth: int64 ``[B, L]``, less than 2^40 in size, the most for the best.
        mask: float32 ``[B, L]``, 1 where there is an event.
        keep: how many.
    """
    places = torch.arange(worth.shape[1], device=worth.device)
    order = torch.where(mask > 0, worth, _MISSING) * _PLACES - places
    return order.topk(min(keep, worth.shape[1]), dim=1).indices.sort(dim=1).values


def product(vectors: Tensor, asked: Tensor) -> Tensor:
    """Return whole numbers, int64 ``[B, L]``: how far each vector points where it is asked to.

    Args:
        vectors: float32 ``[B, L, d]``, of any size.
        asked: float32 ``[B, d]``; its size changes nothing.
    """
    # A sum of products of d numbers of size 1 is d at most.
    steps = 2.0 ** math.floor(math.log2(EXACT / vectors.shape[2]) / 2 - 1)
    whole, along = (vectors * steps).round(), (of_size_one(asked) * steps).round()
    return (whole * along.unsqueeze(1)).sum(dim=2).long()
