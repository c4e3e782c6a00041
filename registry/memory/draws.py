"""Which order does a request get when what is not known yet is drawn? Thompson sampling inside a slate.

The posterior of an item's score is normal: its mean is the score without exploring, its deviation the bonus of the
bandit, α √(Σ w² / d) · value, for Σ w θ has that deviation where every edge's θ has α / √d. A slate of k places takes k
draws; their rankings are read place by place, all firsts, then all seconds, and an item stands where it first comes
(Eide et al., DMKD 2022): nothing is picked twice, and no second slate is drawn.

A draw is a function of the seed, the id of the request, the item and its number, and of nothing else. A request that is
asked again gets the same draws, in every process; other candidates, and their order, change none of them.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_SURE = 6.0
"""Deviations of a difference beyond which an item is taken to have no chance of the first place: below 1e-9."""
_TERMS = 200_000
"""Values of a normal distribution that the chances of one request may cost."""


@dataclass(frozen=True)
class Draw:
    """What draws are a function of, besides the item."""

    request: str = ""
    """Id of the request."""
    seed: int = 0
    """Of the service: another one, other draws."""
    count: int = 1
    """Draws of a request, k."""


def drawn(score: Floats, spread: Floats, items: pa.Array | pa.ChunkedArray, draw: Draw) -> Floats:
    """Return the scores that give a request's order, float64 ``[N]``.

    Of one draw they are its scores. Of several, the item at a place has the score that the first draw has at that
    place. Where every spread is 0 they are the given ones, to the bit.

    Args:
        score: ``[N]`` means.
        spread: ``[N]`` deviations, at least 0.
        items: ``[N]`` ids; of equal scores the smaller id is first.
        draw: of what the draws are.
    """
    scores = score + spread * normals(items, draw)
    if draw.count == 1 or not score.size:
        return np.asarray(scores[0], dtype=np.float64)
    served = np.empty_like(score)
    served[in_slate(scores, _ids(items))] = np.sort(scores[0])[::-1]
    return served


def in_slate(scores: Floats, ties: Integers) -> Integers:
    """Return rows in the order of a slate, int64 ``[N]``: the rankings of all draws, read place by place.

    Args:
        scores: ``[K, N]``, of each draw.
        ties: ``[N]`` numbers; of equal scores the smaller one is first.
    """
    draws, rows = scores.shape
    places = np.empty((draws, rows), dtype=np.int64)
    for draw, own in enumerate(scores):
        places[draw, np.lexsort((ties, -own))] = np.arange(rows)
    return np.argsort((places * draws + np.arange(draws)[:, None]).min(axis=0), kind="stable")


def normals(items: pa.Array | pa.ChunkedArray, draw: Draw) -> Floats:
    """Return standard normal numbers, float64 ``[K, N]``, of items and draws; see `Draw`."""
    key = hashlib.blake2b(f"{draw.seed}:{draw.request}".encode(), digest_size=8).digest()
    own = _mixed(_mixed(_numbers(items) + _STEP) ^ np.uint64(int.from_bytes(key, "big")))
    count = np.arange(1, 2 * draw.count + 1, dtype=np.uint64)[:, None]
    # The middles of 2⁵³ equal steps: neither 0 nor 1 is drawn.
    uniform = ((_mixed(own + count * _STEP) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(np.sqrt(-2.0 * np.log(uniform[::2])) * np.cos(2.0 * np.pi * uniform[1::2]), dtype=np.float64)


def first_propensity(score: Floats, spread: Floats, items: pa.Array | pa.ChunkedArray) -> Floats:
    """Return the chance of each item to stand first, float64 ``[N]`` with the sum 1, however many draws there are.

    Item j is first with ∫ f_j Π_{i≠j} F_i, which is summed over a grid where the largest score lies; a chance below
    1e-9 may be 0. Of later places nothing is said: their chances are of orders, not of items.

    Args:
        score: ``[N]`` means.
        spread: ``[N]`` deviations, at least 0.
        items: ``[N]`` ids; of equal scores that are sure the smaller id is first.
    """
    chance = np.zeros(score.size)
    if not score.size:
        return chance
    best = int(np.lexsort((_ids(items), -score))[0])
    near = score[best] - score <= _SURE * np.hypot(spread, spread[best])
    sure = np.flatnonzero(spread == 0)
    known = int(sure[np.lexsort((_ids(items)[sure], -score[sure]))[0]]) if sure.size else None
    open_ = np.flatnonzero(near & (spread > 0))
    least = -math.inf if known is None else float(score[known])
    if not open_.size:
        chance[best] = 1.0
        return chance
    below, of_each = _first(score[open_], spread[open_], least)
    chance[open_] = of_each
    if known is not None:
        chance[known] = below
    return np.asarray(chance / chance.sum(), dtype=np.float64)


def _first(mean: Floats, spread: Floats, least: float) -> tuple[float, Floats]:
    """Return the chance that no item exceeds `least`, and that each is the largest and does."""
    from scipy.special import log_ndtr

    def log_below(at: Any) -> Floats:
        """Return log F, float64 ``[n, K]``."""
        return np.asarray(log_ndtr((np.atleast_1d(at) - mean[:, None]) / spread[:, None]), dtype=np.float64)

    low, high = float((mean - 9 * spread).min()), float((mean + 9 * spread).max())
    low, top = max(low, least), max(high, least)
    if not math.isfinite(least) or float(log_below(low).sum()) < -30:
        start, end = low, top
        for _ in range(40):  # below `low` the largest score is with a chance of e⁻³⁰
            middle = (start + end) / 2
            start, end = (middle, end) if float(log_below(middle).sum()) < -30 else (start, middle)
        low = start
    most = min(4096, max(64, _TERMS // mean.size))
    each = min(1153, max(19, 2 * most // mean.size))
    pooled = (mean[:, None] + spread[:, None] * np.linspace(-9, 9, each)).ravel()
    grid = np.unique(np.concatenate([[low, top], pooled[(pooled > low) & (pooled < top)]]))
    if grid.size > most:
        grid = grid[np.linspace(0, grid.size - 1, most).round().astype(np.int64)]
    logs = log_below(grid)
    others = np.exp(logs.sum(axis=0) - logs)
    mass = np.diff(np.exp(logs), axis=1)
    below = float(np.exp(logs[:, 0].sum())) if math.isfinite(least) and low == least else 0.0
    return below, np.asarray(((others[:, 1:] + others[:, :-1]) / 2 * mass).sum(axis=1), dtype=np.float64)


def _ids(items: pa.Array | pa.ChunkedArray) -> Integers:
    column = items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
    return np.asarray(pc.rank(column, tiebreaker="dense").to_numpy(), dtype=np.int64)


def _numbers(items: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return a number per id, uint64 ``[N]``: equal for equal ids, whatever else is in the column."""
    column = items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
    if pa.types.is_integer(column.type):
        whole = pc.fill_null(column.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return np.asarray(whole, dtype=np.int64).view(np.uint64)
    texts = (hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in column.to_pylist())
    return np.array([int.from_bytes(digest, "big") for digest in texts], dtype=np.uint64)


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return bits mixed so that neighbours have nothing in common (Steele et al., OOPSLA 2014, SplitMix64)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)), dtype=np.uint64)
