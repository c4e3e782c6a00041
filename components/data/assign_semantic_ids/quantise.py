"""Which codes stand for a vector? The nearest of each level, for what the levels before it left (residual search).

Codes are trained by k-means here; `rqvae.py` trains them together with a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]
STEPS = 100
"""Most steps of k-means; it ends before where no vector changes its group."""
BLOCK = 16_384
"""Vectors whose distances are held at once."""


def nearest(vectors: Floats, centres: Floats) -> Codes:
    """Return int64 ``[n]``, the nearest centre of each vector, the first of those that are equally near."""
    halves = (centres.astype(np.float64) ** 2).sum(axis=1) / 2
    found = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float64)
        found[start : start + BLOCK] = (halves - block @ centres.T.astype(np.float64)).argmin(axis=1)
    return found


def assigned(vectors: Floats, books: Sequence[Floats]) -> tuple[Codes, list[float]]:
    """Return int64 ``[n, L]`` codes, and by level the mean square of what is left after it.

    Args:
        vectors: float32 ``[n, D]``.
        books: float32 ``[K, D]`` by level.
    """
    left, codes, errors = vectors.copy(), [], []
    for book in books:
        chosen = nearest(left, book)
        left = left - book[chosen]
        codes.append(chosen)
        errors.append(float((left.astype(np.float64) ** 2).sum(axis=1).mean()))
    return np.stack(codes, axis=1), errors


def kmeans_books(vectors: Floats, levels: int, codes: int, seed: int) -> list[Floats]:
    """Return the codebooks of residual k-means, float32 ``[K, D]`` by level.

    Args:
        vectors: float32 ``[n, D]`` to learn from, n at least K.
        levels: L.
        codes: K.
        seed: of the start.
    """
    left, books = vectors.copy(), []
    for level in range(levels):
        book = kmeans(left, codes, np.random.default_rng([seed, level]))
        left = left - book[nearest(left, book)]
        books.append(book)
    return books


def kmeans(vectors: Floats, groups: int, rng: np.random.Generator) -> Floats:
    """Return float32 ``[K, D]`` centres by Lloyd's steps from k-means++ (Arthur and Vassilvitskii, SODA 2007).

    A group that loses all its vectors gets the one that is farthest from its centre.
    """
    data = vectors.astype(np.float64)
    centres = _start(data, groups, rng)
    before: Codes | None = None
    for _ in range(STEPS):
        chosen = nearest(vectors, centres.astype(np.float32))
        if before is not None and np.array_equal(chosen, before):
            break
        before = chosen
        counts = np.bincount(chosen, minlength=groups)
        sums = np.zeros_like(centres)
        np.add.at(sums, chosen, data)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            distances = ((data - centres[chosen]) ** 2).sum(axis=1)
            centres[empty] = data[np.argsort(-distances, kind="stable")[: len(empty)]]
    return centres.astype(np.float32)


def _start(data: NDArray[np.float64], groups: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return vectors far from each other: each drawn by its square distance to those before it."""
    centres = [data[int(rng.integers(len(data)))]]
    distances = ((data - centres[0]) ** 2).sum(axis=1)
    for _ in range(groups - 1):
        total = distances.sum()
        shares: Any = distances / total if total > 0 else None  # all vectors are centres already
        centres.append(data[int(rng.choice(len(data), p=shares))])
        distances = np.minimum(distances, ((data - centres[-1]) ** 2).sum(axis=1))
    return np.stack(centres)
