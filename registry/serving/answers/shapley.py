"""How is an answer shared among parts that act together? Shapley values over orders of the parts, in antithetic pairs.

The value of a part is its mean effect when the parts are taken away one after another, over orders of them, so what
two parts do only together is shared between them, and what either does alone too. Each order ends where nothing is
left, so the values add up to the answer minus that of nothing, whichever orders were drawn. An order and its reverse
together share every interaction of two parts evenly, so only those of three and more are estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Orders = Sequence[tuple[int, ...]]
FEW = 6
"""Up to so many parts all orders may be taken: their 64 subsets are soon answered."""


def orders_of(parts: int, count: int, seed: int) -> Orders:
    """Return orders in which parts are taken away.

    All orders, which make the values exact, where that needs no more answers than `count` of them; else `count` drawn
    ones, rounded up to pairs of an order and its reverse.
    """
    if parts <= FEW and 2**parts <= count * (parts - 1) + 2:
        return tuple(permutations(range(parts)))
    rng = np.random.default_rng(seed)
    drawn = [tuple(rng.permutation(parts).tolist()) for _ in range((count + 1) // 2)]
    return tuple(order for one in drawn for order in (one, one[::-1]))


def subsets(orders: Orders) -> set[frozenset[int]]:
    """Return what is taken away at some step of some order: each needs one answer, however many orders meet it."""
    return {frozenset(order[:step]) for order in orders for step in range(len(order) + 1)}


def shared(
    answer: Callable[[frozenset[int]], Floats], present: np.ndarray[Any, np.dtype[np.bool_]], orders: Orders
) -> tuple[Floats, Floats]:
    """Return the parts' values and the answers without any part.

    Args:
        answer: ``[B]`` answers without the given parts.
        present: ``[B, P]``, whether a row has something of a part; one that has not keeps its answer to the bit.
        orders: orders of the P parts.

    Returns:
        float64 ``[B, P]``, which sum to the answer with everything minus the answer without any part, and float64
        ``[B]``, that one.
    """
    known = {away: answer(away) for away in subsets(orders)}
    whole = known[frozenset()]
    bare = np.where(present.any(axis=1), known[frozenset(range(present.shape[1]))], whole)
    values = np.zeros(present.shape)
    for order in orders:
        before = whole
        for step, part in enumerate(order):
            # A row that has nothing left is the empty row, whatever rounding says of the batch that it lies in.
            left = present[:, list(order[step + 1 :])].any(axis=1)
            after = np.where(left, known[frozenset(order[: step + 1])], bare)
            after = np.where(present[:, part], after, before)
            values[:, part] += before - after
            before = after
    return values / len(orders), bare
