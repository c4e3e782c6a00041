"""How does a batch reach the device? Packed: one pinned buffer and one copy per type of number, views on the device.

A copy costs the host a call and the bus a start, whatever its size, and a field of a batch is a few kilobytes. So all
integers of a batch (indices, offsets and values of histories) lie one after the other in one buffer, all floats
(numbers, times, labels, weights) in another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

ALIGNED = 256
"""Bytes: each tensor begins at a multiple of it, as those do that a device allocates, so kernels read whole words."""


def packed_to(parts: Sequence[Mapping[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    """Return the tensors of some parts of a batch on `device`, after one copy per dtype that does not wait for it.

    Args:
        parts: tensors on the CPU by name; one that several names share is copied once and stays shared.
        device: where to; memory is pinned for CUDA alone.

    Returns:
        The same names, shapes, dtypes and values. Tensors of a dtype are views of one buffer: change none in place.
    """
    given = {id(each): each for part in parts for each in part.values()}
    made: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(each.dtype for each in given.values()):
        made |= _copied({key: each for key, each in given.items() if each.dtype == dtype}, dtype, device)
    return [{name: made[id(each)] for name, each in part.items()} for part in parts]


def _copied(tensors: Mapping[int, Tensor], dtype: torch.dtype, device: torch.device) -> dict[int, Tensor]:
    """Return tensors of one dtype on `device`, after one copy."""
    step = ALIGNED // dtype.itemsize
    places: dict[int, slice] = {}
    size = 0
    for key, each in tensors.items():
        places[key] = slice(size, size + each.numel())
        size += -(-each.numel() // step) * step
    # The host's allocator lends pinned memory again only when the copy out of it is done.
    buffer = torch.empty(size, dtype=dtype, pin_memory=device.type == "cuda")
    for key, each in tensors.items():
        buffer[places[key]].view(each.shape).copy_(each)
    there = buffer.to(device, non_blocking=True)
    return {key: there[places[key]].view(each.shape) for key, each in tensors.items()}
