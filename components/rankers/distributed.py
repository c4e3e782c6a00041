"""How do the workers of one training run add up what each of them holds?"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from components.platform.errors import RetryableError

_TEXT_BYTES = 500
"""Room for what a worker says to the others."""


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


def exchanged(values: Tensor, counts: Tensor, coming: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Send each worker its part of `values`, and return what all workers sent here, by rank.

    Args:
        values: ``[n, ...]``, the parts of the workers one after the other; all sizes but n are those of every worker.
        counts: int64 ``[W]``, how long each part is.
        coming: int64 ``[W]``, how long the parts are that come; asked for when left out.

    Returns:
        ``[m, ...]`` and int64 ``[W]``, how long each part of it is.

    Raises:
        RetryableError: another worker is gone.
    """
    try:
        if coming is None:
            coming = torch.empty_like(counts)
            dist.all_to_all_single(coming, counts)
        received: list[int] = coming.tolist()
        made = values.new_empty((sum(received), *values.shape[1:]))
        dist.all_to_all_single(made, values.contiguous(), received, counts.tolist())
    except RuntimeError as error:
        raise _lost(error) from error
    return made, coming


def gathered_at_first(values: Tensor) -> list[Tensor]:
    """Return every worker's `values` on worker 0, by rank; nothing on the others. Shapes are alike.

    Raises:
        RetryableError: another worker is gone.
    """
    first = dist.get_rank() == 0
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())] if first else []
    try:
        dist.gather(values.contiguous(), parts if first else None)
    except RuntimeError as error:
        raise _lost(error) from error
    return parts


def gathered_texts(text: str, device: torch.device) -> list[str]:
    """Return what every worker says, by rank; of a longer text its first 500 bytes.

    Raises:
        RetryableError: another worker is gone.
    """
    if is_alone():
        return [text]
    line = torch.zeros(1, _TEXT_BYTES, dtype=torch.uint8)
    said = torch.frombuffer(bytearray(text.encode()[:_TEXT_BYTES] or b"\0"), dtype=torch.uint8)
    line[0, : len(said)] = said
    every = gathered(line.to(device)).cpu().numpy()
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in every]


def _lost(error: RuntimeError) -> RetryableError:
    return RetryableError(f"a training worker was lost: {str(error).splitlines()[0][:200]}; run again")
