"""Which numbers do golden vectors start from? A small generator that anybody can write down again, exact in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def golden(seed: int, *shape: int) -> Tensor:
    """Return float64 numbers of {−1, −0.9 … 1}, row by row: ``x ← (1103515245·x + 12345) mod 2³¹``, from a seed on."""
    numbers = []
    for _ in range(math.prod(shape)):
        seed = (1_103_515_245 * seed + 12_345) % 2**31
        numbers.append(((seed >> 16) % 21 - 10) / 10)
    return torch.tensor(numbers, dtype=torch.float64).view(*shape)
