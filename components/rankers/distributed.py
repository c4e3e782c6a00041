"""How do the workers of one training run add up what each of them holds?"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from components.platform.errors import RetryableError


def is_alone() -> bool:
    """Return whether there is no other worker."""
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def summed(values: Tensor) -> Tensor:
    """Add up `values` over all workers, in place; alone, they stay as they are.

    Raises:
        RetryableError: another worker is gone.
    """
    if not is_alone():
        try:
            dist.all_reduce(values)
        except RuntimeError as error:  # the base of every backend's errors
            raise _lost(error) from error
    return values


def gathered(values: Tensor) -> Tensor:
    """Return every worker's `values` one after the other, by rank; alone, `values` itself.

    Args:
        values: ``[n, ...]``; n may differ between workers, the other sizes may not.

    Raises:
        RetryableError: another worker is gone.
    """
    if is_alone():
        return values
    try:
        size = torch.tensor([len(values)], device=values.device)
        sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, size)
        counts = [int(n) for n in sizes]
        padded = values.new_zeros((max(counts), *values.shape[1:]))
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
    except RuntimeError as error:
        raise _lost(error) from error
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _lost(error: RuntimeError) -> RetryableError:
    return RetryableError(f"a training worker was lost: {str(error).splitlines()[0][:200]}; run again")
