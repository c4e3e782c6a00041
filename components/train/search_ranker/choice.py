"""What is chosen for each pair? What lowers the loss of held-out rows beyond chance, pair by pair, others as chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.train.searched import Gain

NAIVE, MEMORISE, FACTORISE = range(3)
"""Numbers of `components.train.searched.MODES`."""
ROUNDS = 4
"""Passes at most; a choice that still changes then stays as it is."""
KEPT = 128
"""Answers of the network that are remembered, 0.8 MB each of 100,000 rows."""

Modes = tuple[int, ...]
Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """The modes, and what they are worth."""

    modes: Modes
    gains: tuple[tuple[Gain, Gain], ...]
    """By pair, of memorising and of factorising it against nothing, the other pairs as chosen."""


def choose(pairs: int, losses: Callable[[Modes], Losses], sure: float, worth: float) -> Chosen:
    """Choose what to do with each pair.

    Pairs that gain alone join one after the other, those that gain most first; then every pair that joined is looked at
    again beside all others, until nothing changes. A pair that gains only beside those joins after them. A pair gains
    where it lowers the loss by more than `sure` standard errors and by more than `worth`; between the two ways, the
    better mean decides.

    Args:
        pairs: how many.
        losses: float64 ``[rows]``, the loss of each held-out row under a choice for every pair.
        sure: standard errors.
        worth: nats per row.
    """
    of = lru_cache(KEPT)(losses)

    def gains(modes: Modes, pair: int) -> tuple[Gain, Gain]:
        without = of(_with(modes, pair, NAIVE))
        one, other = (_gain(without, of(_with(modes, pair, mode))) for mode in (MEMORISE, FACTORISE))
        return one, other

    def best(modes: Modes, pair: int) -> tuple[int, float]:
        memorise, factorise = gains(modes, pair)
        better = memorise if memorise.mean > factorise.mean else factorise
        if better.mean <= max(sure * better.error, worth):
            return NAIVE, 0.0
        return (MEMORISE if better is memorise else FACTORISE), better.mean

    modes: Modes = (NAIVE,) * pairs
    for _ in range(ROUNDS):
        rest = [pair for pair in range(pairs) if modes[pair] == NAIVE]
        gaining = {pair: gained for pair in rest if (gained := best(modes, pair)[1])}
        if not gaining:
            break
        for pair in sorted(gaining, key=lambda at: (-gaining[at], at)):
            modes = _with(modes, pair, best(modes, pair)[0])
        modes = _settled(modes, lambda told, pair: best(told, pair)[0])
    return Chosen(modes, tuple(gains(modes, pair) for pair in range(pairs)))


def _settled(modes: Modes, best: Callable[[Modes, int], int]) -> Modes:
    """Return the modes after every pair that does something was looked at again, until nothing changes."""
    for _ in range(ROUNDS):
        before = modes
        for pair in (pair for pair, mode in enumerate(before) if mode != NAIVE):
            modes = _with(modes, pair, best(modes, pair))
        if modes == before:
            break
    return modes


def _with(modes: Modes, pair: int, mode: int) -> Modes:
    return (*modes[:pair], mode, *modes[pair + 1 :])


def _gain(before: Losses, after: Losses) -> Gain:
    """Return by how much a loss falls, row by row, and how sure that is."""
    falls = before - after
    return Gain(mean=float(falls.mean()), error=float(falls.std(ddof=1) / np.sqrt(len(falls))) if len(falls) > 1 else 0)
