"""Where does a large table lie in memory? In large pages, so that reading a row seldom waits for its address.

A step reads rows all over the table. With pages of 4 KiB nearly every such read first has to look up where its page
is; pages of 2 MiB are few enough for the processor to remember them.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod

import torch
from torch import Tensor

LEAST_BYTES = 32 * 2**20
"""Smaller tables gain nothing."""


def roomy_zeros(*shape: int) -> Tensor:
    """Return float32 zeros on the CPU, in large pages where there is enough to fill some and the system has them."""
    size = 4 * prod(shape)
    if size < LEAST_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(shape)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them: pages of the usual size then
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(shape)
