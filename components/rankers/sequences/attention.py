"""How is attention shared among the events that exist?"""

from __future__ import annotations

import torch
from torch import Tensor

_NEVER = -1e30
"""Score of what must not be attended to: finite, so that a row without any event has no NaN."""


def masked_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """Return the softmax over the last axis of what is allowed, exactly zero elsewhere.

    Args:
        scores: float32 ``[..., L]``; L may be 0.
        allowed: float32, broadcast to `scores`: 1 where there is something to attend to, 0 elsewhere. A row
            without a 1 gets zeros.
    """
    weights = torch.softmax(scores.masked_fill(allowed == 0, _NEVER), dim=-1)
    return weights * allowed
