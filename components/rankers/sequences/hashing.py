"""On which side of fixed random directions does a vector lie? The bits that similar vectors share.

Two vectors at the angle θ differ in a bit with probability θ/π (Charikar, STOC 2002). Bits decide which events count,
so they must be the same in training, in the graph and on any machine: vectors are rounded to whole numbers and the
directions are ±1, so that every sum is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 4096.0
"""Whole steps per 1: a fresh embedding of size 0.01 is some forty steps long."""
EXACT = 2.0**24
"""Whole numbers below this are exact in float32."""
_SEED = 20220817


def directions(width: int, hashes: int) -> Tensor:
    """Return ±1, float32 ``[width, hashes]``, always the same."""
    g = torch.Generator().manual_seed(_SEED)
    return torch.randint(2, (width, hashes), generator=g).mul(2).sub(1).to(torch.float32)


def bits(vectors: Tensor, along: Tensor) -> Tensor:
    """Return bool ``[..., hashes]``: on which side of each direction a vector lies; zero lies on the false side.

    Args:
        vectors: float32 ``[..., d]``; numbers beyond ±4096/d are cut off.
        along: float32 ``[d, hashes]``, see `directions`.
    """
    most = EXACT / STEPS / along.shape[0]
    whole = (vectors.detach().float().clamp(-most, most) * STEPS).round()
    if torch.is_autocast_enabled(vectors.device.type):
        with torch.autocast(vectors.device.type, enabled=False):
            return whole @ along > 0
    return whole @ along > 0
