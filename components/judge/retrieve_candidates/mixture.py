"""Which candidates has a user of several interests? One query per kind of item, each with its share of the places.

El-Kishky et al., "kNN-Embed: Locally Smoothed Embedding Mixtures for Multi-interest Candidate Retrieval", 2022, arXiv
2205.06205; how queries are made here is our choice. A mean of vectors of different kinds lies between them, where few
items are. Here the catalogue is divided into kinds; a user's share of a kind is that among the items chosen before,
smoothed by the nearest users; and the query of a kind is the user's vector, moved from the mean of those items to the
mean of those of the kind.
With one kind nothing moves, and the query is the user's vector to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.serving.answers.excluded import NONE, Pairs
from registry.serving.answers.retrieval import retrieve
from registry.serving.model.separable import Vectors

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
NOBODY = -1
"""Where there is no item, no kind or no neighbour."""
AT_ONCE = 4096
"""Users whose shares and queries are held at once."""
_EXACT = 9
"""Decimals that remainders are compared at, so that equal shares are equal."""


@dataclass(frozen=True)
class Chosen:
    """What each of U users chose before, by kind."""

    counts: Floats
    """``[U, C]``, how many items of each kind."""
    cells: Integers
    """``[N]`` rising, ``user · C + kind`` of each kind that a user chose of."""
    sums: Floats
    """``[N, D]``, the sum of the vectors of those items."""
    totals: Floats
    """``[U, D]``, the sum of the vectors of all items of a user."""

    @classmethod
    def of(cls, pairs: Pairs, users: int, items: Vectors, kinds: Integers, clusters: int) -> Chosen:
        """Return what pairs of user and item, sorted and each once, add up to.

        Args:
            pairs: int64 ``[P, 2]``, row of the user and of the item.
            users: U.
            items: float32 ``[I, D]``.
            kinds: int64 ``[I]``.
            clusters: C.
        """
        cell = pairs[:, 0] * clusters + kinds[pairs[:, 1]]
        cells, place = np.unique(cell, return_inverse=True)
        vectors = items[pairs[:, 1]].astype(np.float64)
        sums, totals = np.zeros((len(cells), items.shape[1])), np.zeros((users, items.shape[1]))
        np.add.at(sums, place, vectors)
        np.add.at(totals, pairs[:, 0], vectors)
        counts = np.bincount(cell, minlength=users * clusters).astype(np.float64).reshape(users, clusters)
        return cls(counts, cells, sums, totals)

    def sum_of(self, users: Integers, kinds: Integers) -> Floats:
        """Return ``[n, D]``, the sum of each user's items of a kind; zero where there is none."""
        found = np.zeros((len(users), self.sums.shape[1]))
        if len(self.cells):
            cell = users * self.counts.shape[1] + kinds
            place = np.minimum(np.searchsorted(self.cells, cell), len(self.cells) - 1)
            there = self.cells[place] == cell
            found[there] = self.sums[place[there]]
        return found


def shares(counts: Floats) -> Floats:
    """Return each row of counts ``[..., C]`` as shares; of none, zeros."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)


def smoothed(counts: Floats, among: Floats, neighbours: Integers, own: float) -> Floats:
    """Return p(kind | user), float64 ``[U, C]``: own shares and the neighbours' mean shares, weighted.

    A user without items has the neighbours' shares, one without neighbours the own; one with neither has zeros.

    Args:
        counts: ``[U, C]`` of the users.
        among: ``[P, C]`` of those who may be neighbours, each with items.
        neighbours: int64 ``[U, k]``, rows of `among`, `NOBODY` where there are fewer.
        own: λ.
    """
    mine = shares(counts)
    there = neighbours != NOBODY
    theirs = np.zeros_like(mine)
    if there.size and len(among):
        each = np.where(there[:, :, None], shares(among)[np.maximum(neighbours, 0)], 0.0)
        theirs = each.sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None]
    weight = np.where(counts.sum(axis=1) > 0, np.where(there.any(axis=1), own, 1.0), 0.0)[:, None]
    return weight * mine + (1 - weight) * theirs


def quotas(share: Floats, k: int) -> Integers:
    """Return how many of k places each kind gets, int64 ``[U, C]``: by largest remainder, ties to the smaller number.

    The places of a row add up to k, or to 0 where all its shares are 0.
    """
    wanted = np.round(share * k, _EXACT)
    whole = np.floor(wanted)
    left = np.where(share.sum(axis=1) > 0, k - whole.sum(axis=1), 0)
    order = np.argsort(-(wanted - whole), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(share.shape[1]), share.shape), axis=1)
    return (whole + (rank < left[:, None])).astype(np.int64)


@dataclass(frozen=True)
class Asked:
    """Users with their vectors, what they chose, and who may lend them shares."""

    vectors: Vectors
    """float32 ``[U, D]``."""
    chosen: Chosen
    around: Chosen
    """Of those who may be neighbours."""
    neighbours: Integers
    """int64 ``[U, k]``, see `smoothed`."""
    own: float


@dataclass(frozen=True)
class Candidates:
    """k items per user, best first by the inner product with the user's own vector."""

    items: Integers
    """int64 ``[U, k]``, `NOBODY` where exclusions leave fewer."""
    scores: Vectors
    """float32 ``[U, k]``, −∞ there."""
    kinds: Integers
    """int64 ``[U, k]``, the kind whose query found an item, `NOBODY` where that was the user's vector."""


def single(users: Vectors, items: Vectors, k: int, excluded: Pairs = NONE) -> Candidates:
    """Return the candidates that one query per user finds."""
    best = retrieve(users, items, k, excluded)
    found = np.where(np.isfinite(best.scores), best.items, NOBODY)
    return _by_score(users, items, found, np.full_like(found, NOBODY))


def mixed(asked: Asked, items: Vectors, k: int, excluded: Pairs = NONE) -> Candidates:
    """Return the candidates that one query per kind finds, the kinds with most places first, no item twice.

    What is left free, because a kind has no more items or a user none before, goes to the user's own vector.

    Args:
        asked: U users.
        items: float32 ``[I, D]``.
        k: items per user, at most I.
        excluded: pairs that nobody gets, sorted by user.
    """
    parts = []
    for start in range(0, len(asked.vectors), AT_ONCE):
        first, last = np.searchsorted(excluded[:, 0], [start, start + AT_ONCE])
        parts.append(_some(asked, slice(start, start + AT_ONCE), items, k, excluded[first:last] - np.array([start, 0])))
    empty = np.empty((0, k), dtype=np.int64)
    parts = parts or [Candidates(empty, empty.astype(np.float32), empty)]
    return Candidates(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("items", "scores", "kinds"))
    )


def _some(asked: Asked, at: slice, items: Vectors, k: int, excluded: Pairs) -> Candidates:
    users, neighbours = asked.vectors[at], asked.neighbours[at]
    counts = asked.chosen.counts[at]
    places = quotas(smoothed(counts, asked.around.counts, neighbours, asked.own), k)
    order = np.argsort(-places, axis=1, kind="stable")
    found = np.full((len(users), k), NOBODY, dtype=np.int64)
    kinds = np.full_like(found, NOBODY)
    taken = np.zeros(len(users), dtype=np.int64)
    none = excluded
    for turn in range(order.shape[1] + 1):
        if turn < order.shape[1]:
            kind = order[:, turn]
            wanted = np.take_along_axis(places, kind[:, None], axis=1)[:, 0]
        else:
            kind, wanted = np.full(len(users), NOBODY), k - taken
        rows = np.flatnonzero(wanted > 0)
        if not len(rows):
            continue
        query = users[rows] if turn == order.shape[1] else _moved(asked, at.start + rows, kind[rows])
        best = retrieve(query, items, int(wanted.max()), _of(none, rows, len(users)))
        kept = np.isfinite(best.scores) & (np.arange(best.items.shape[1]) < wanted[rows, None])
        row, column = np.nonzero(kept)
        item = best.items[row, column]
        place = taken[rows[row]] + column
        found[rows[row], place], kinds[rows[row], place] = item, kind[rows[row]]
        taken[rows] += kept.sum(axis=1)
        none = np.concatenate([none, np.stack([rows[row], item], axis=1)])
        none = none[np.argsort(none[:, 0], kind="stable")]
    return _by_score(users, items, found, kinds)


def _moved(asked: Asked, users: Integers, kinds: Integers) -> Vectors:
    """Return float32 ``[n, D]``: each user's vector, moved from the mean of what was chosen to the mean of a kind.

    Of a kind, or of a user, without items of the user's own it is the mean of the neighbours' items.
    """
    alone, theirs = users[:, None], asked.neighbours[users]
    towards = _mean(asked.chosen, alone, asked.around, theirs, kinds)
    middle = _mean(asked.chosen, alone, asked.around, theirs, None)
    return (asked.vectors[users] + (towards - middle)).astype(np.float32)


def _mean(own: Chosen, alone: Integers, around: Chosen, theirs: Integers, kinds: Integers | None) -> Floats:
    """Return ``[n, D]``, the mean of the items of a kind, or of all: the user's own, else the neighbours'."""
    mine, count = _sum(own, alone, kinds)
    lent, others = _sum(around, theirs, kinds)
    has = count > 0
    total, count = np.where(has[:, None], mine, lent), np.where(has, count, others)
    return total / np.maximum(count, 1)[:, None]


def _sum(chosen: Chosen, users: Integers, kinds: Integers | None) -> tuple[Floats, Floats]:
    """Return ``[n, D]`` sums and ``[n]`` counts of the items of groups of users ``[n, k]``, `NOBODY` where fewer."""
    total, count = np.zeros((len(users), chosen.totals.shape[1])), np.zeros(len(users))
    for column in users.T if len(chosen.totals) else ():
        there = np.flatnonzero(column != NOBODY)
        user = column[there]
        if kinds is None:
            total[there] += chosen.totals[user]
            count[there] += chosen.counts[user].sum(axis=1)
        else:
            total[there] += chosen.sum_of(user, kinds[there])
            count[there] += chosen.counts[user, kinds[there]]
    return total, count


def _of(pairs: Pairs, rows: Integers, users: int) -> Pairs:
    """Return the pairs of some users, who are numbered anew."""
    number = np.full(users, NOBODY)
    number[rows] = np.arange(len(rows))
    kept = pairs[number[pairs[:, 0]] >= 0]
    return np.stack([number[kept[:, 0]], kept[:, 1]], axis=1)


def _by_score(users: Vectors, items: Vectors, found: Integers, kinds: Integers) -> Candidates:
    scores = np.einsum("ukd,ud->uk", items[np.maximum(found, 0)], users, dtype=np.float32)
    scores = np.where(found == NOBODY, np.float32(-np.inf), scores)
    key: Any = np.lexsort((found, -scores), axis=1)
    return Candidates(*(np.take_along_axis(array, key, axis=1) for array in (found, scores, kinds)))
