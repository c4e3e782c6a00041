"""What do lists hold of baskets that nobody learned from? Lists in four ways, and their recall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from components.train.fit_item_pairs.baskets import Baskets, Lines
from components.train.fit_item_pairs.report import Figures, Way
from registry.metrics.resampling import bootstrap_ratios
from registry.serving.answers.retrieval import retrieve

Integers = NDArray[np.int64]
NOTHING = -1
"""Where a list ends early."""


@dataclass(frozen=True)
class Lists:
    """The best k other items of each item, best first."""

    items: Integers
    """int64 ``[I, k]``, `NOTHING` where there are fewer."""
    scores: NDArray[np.float64]
    """``[I, k]``."""


def by_vectors(asking: NDArray[np.float32], found: NDArray[np.float32], k: int) -> Lists:
    """Return the k other items with the largest inner products."""
    own = np.stack([np.arange(len(asking))] * 2, axis=1)
    best = retrieve(asking, found, min(k, len(found)), own)
    return Lists(np.where(np.isfinite(best.scores), best.items, NOTHING), best.scores.astype(np.float64))


def alike(asking: NDArray[np.float32], k: int) -> Lists:
    """Return the k other items whose vectors of asking have the largest cosines."""
    unit = asking / np.maximum(np.linalg.norm(asking, axis=1, keepdims=True), 1e-12)
    return by_vectors(unit, unit, k)


def by_counts(values: sparse.csr_matrix, k: int) -> Lists:
    """Return of each row the k columns with the largest values, of equal ones the smaller first; zeros are none."""
    items = np.full((values.shape[0], k), NOTHING, dtype=np.int64)
    scores = np.full(items.shape, -np.inf)
    for row in range(values.shape[0]):
        at = slice(values.indptr[row], values.indptr[row + 1])
        column, value = values.indices[at], values.data[at]
        best = np.lexsort((column, -value))[:k]
        items[row, : len(best)], scores[row, : len(best)] = column[best], value[best]
    return Lists(items, scores)


def lifted(together: sparse.csr_matrix, counts: Integers, baskets: int, least: int) -> sparse.csr_matrix:
    """Return how often two items lay together over what chance would give, where that is `least` times or more."""
    found = together.tocoo()
    enough = found.data >= least
    row, column, value = found.row[enough], found.col[enough], found.data[enough]
    lift = value * baskets / (counts[row].astype(np.float64) * counts[column])
    return sparse.csr_matrix((lift, (row, column)), shape=together.shape)


def by_popularity(counts: Integers, k: int) -> Lists:
    """Return the items in most baskets, for every item the same but itself."""
    everything = np.ones((len(counts), 1), dtype=np.float32)
    return by_vectors(everything, counts[:, None].astype(np.float32), k)


def judged(
    baskets: Baskets, together: sparse.csr_matrix, ways: Mapping[Way, Lists], k: int, resamples: int, seed: int
) -> list[Figures]:
    """Return the figures of every way for lists of one length."""
    ours, theirs, basket = pairs_of(baskets.test)
    size = len(baskets.items)
    code = ours * size + theirs
    known = together.tocoo()
    before = np.sort(known.row.astype(np.int64) * size + known.col)
    place = np.minimum(np.searchsorted(before, code), max(len(before) - 1, 0))
    new = before[place] != code if len(before) else np.ones(len(code), dtype=bool)
    # Every line of a basket counts once: each of its pairs by one over their number.
    share = 1 / (np.bincount(basket)[basket] / _lines_of(baskets.test)[basket])
    total, of_new = _per(basket, share), _per(basket, new)
    figures = []
    for way, lists in ways.items():
        cut = lists.items[:, :k]
        listed = (np.arange(size)[:, None] * size + cut)[cut != NOTHING]
        hit = np.isin(code, listed)
        ratios = {"recall": (_per(basket, hit * share), total), "new": (_per(basket, hit & new), of_new)}
        intervals = bootstrap_ratios(ratios, np.arange(len(total)), resamples, seed)
        figures.append(Figures(way=way, k=k, distinct=len(np.unique(cut[cut != NOTHING])), **intervals))
    return figures


def pairs_of(lines: Lines) -> tuple[Integers, Integers, Integers]:
    """Return ``[P]`` items, other items of the basket, and the basket's number, from 0."""
    _, first, place, lengths = np.unique(lines.basket, return_index=True, return_inverse=True, return_counts=True)
    each = lengths[place]
    row = np.repeat(np.arange(len(place)), each)
    other = first[place[row]] + (np.arange(len(row)) - np.repeat(np.cumsum(each) - each, each))
    different = row != other
    row, other = row[different], other[different]
    return lines.item[row], lines.item[other], np.asarray(place[row], dtype=np.int64)


def _per(basket: Integers, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sum of values of each basket."""
    return np.bincount(basket, values.astype(np.float64)).astype(np.float64)


def _lines_of(lines: Lines) -> Integers:
    return np.asarray(np.unique(lines.basket, return_counts=True)[1], dtype=np.int64)
