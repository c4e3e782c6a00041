"""How is attention shared among the events that exist, and by vectors of which size?"""

from __future__ import annotations

import torch
from torch import Tensor

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
