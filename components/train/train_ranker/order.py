"""In which order do rows reach the steps? Shuffled whole, or block by block where they are more than fit in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
BLOCK = 65_536
"""Rows that are read together: long enough that a disk reads them at full speed."""


@dataclass(frozen=True)
class Window:
    """Rows that are in memory together, and the steps that train on them.

    Attributes:
        blocks: half-open ranges of rows, in the order in which they are read.
        first_step: number of its first step in the epoch, from 0.
        rows: how many rows.
        batch: rows of a step; the last may have fewer.
    """

    blocks: tuple[tuple[int, int], ...]
    first_step: int
    rows: int
    batch: int

    @property
    def steps(self) -> int:
        """How many steps train on the window."""
        return -(-self.rows // self.batch)


def windows(rows: int, batch: int, seed: int, epoch: int, in_memory: int) -> list[Window]:
    """Return the windows of an epoch: the same on every worker and for any number of workers.

    A split that fits is one window of one block. A larger one is cut into blocks, which are shuffled and then dealt
    to windows, so that a window holds rows from all over the split.

    Args:
        rows: rows of the split.
        batch: rows of a step over all workers.
        seed: of the run.
        epoch: from 1.
        in_memory: most rows of a window; rounded up to whole blocks.
    """
    if rows <= in_memory:
        return [Window(((0, rows),), 0, rows, batch)]
    size = min(BLOCK, in_memory)
    blocks = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    order = np.random.default_rng([seed, epoch, 1]).permutation(len(blocks))
    each = -(-in_memory // size)
    made: list[Window] = []
    for first in range(0, len(blocks), each):
        chosen = tuple(blocks[i] for i in order[first : first + each])
        before = made[-1].first_step + made[-1].steps if made else 0
        made.append(Window(chosen, before, sum(end - start for start, end in chosen), batch))
    return made


def shuffled(window: Window, seed: int, epoch: int) -> Indices:
    """Return the order of a window's rows, int64 ``[rows]``, counted within the window."""
    entropy = [seed, epoch] if window.first_step == 0 and len(window.blocks) == 1 else [seed, epoch, window.first_step]
    return np.random.default_rng(entropy).permutation(window.rows).astype(np.int64)


def share(rows: int, rank: int, world: int) -> slice:
    """Return which of `rows` consecutive rows belong to `rank`; shares differ by at most one row."""
    return slice(rows * rank // world, rows * (rank + 1) // world)
