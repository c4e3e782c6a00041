"""How do the workers of one training run add up what each of them holds?"""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

from components.errors import RetryableError


def summed(values: Tensor) -> Tensor:
    """Add up `values` over all workers, in place; alone, they stay as they are.

    Raises:
        RetryableError: another worker is gone.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        try:
            dist.all_reduce(values)
        except RuntimeError as error:  # the base of every backend's errors
            reason = str(error).splitlines()[0][:200]
            raise RetryableError(f"a training worker was lost: {reason}; run again") from error
    return values
