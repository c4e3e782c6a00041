"""How do codes of content hear clicks? Vectors are turned towards what clicks say, as far as vectors can tell it.

After Ye et al., "DAS: Dual-Aligned Semantic IDs", CIKM 2025, arXiv 2508.10584, which trains codes together with vectors
of who clicked what, rid of popularity. Here such vectors are made first, from clicks that activity of the user and rate
of the item do not explain, and a ridge regression finds what item vectors tell of them. That is put beside the vectors
before codes are searched, so a code is still a function of the vector alone: an item without a click has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.assign_semantic_ids.config import Align
from components.data.assign_semantic_ids.quantise import Floats
from components.platform.errors import BadInputError

_RATE_ROWS = 20
"""Rows of the average rate that the rate of a user and of an item starts from."""
_ROWS = 10
"""Rows that say nothing which an item's vector of clicks starts from."""
_RIDGE = 0.01
"""Penalty of the regression, as a share of what the vectors hold per direction."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Engaged:
    """What clicks say of items."""

    vectors: Numbers
    """float64 ``[n, C]``: items that the same users clicked more than expected are alike."""
    rows: NDArray[np.int64]
    """int64 ``[n]``, how many rows tell it; 0 where there is nothing."""

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Engaged:
        """Return that of some items."""
        return Engaged(self.vectors[chosen], self.rows[chosen])


@dataclass(frozen=True)
class Turn:
    """How vectors are turned."""

    matrix: Floats
    """float32 ``[D, D + C]``: the vector, and what it tells of clicks."""
    told: float
    """Share of what clicks say of an item that its vector tells, judged without the item: small where items have few
    rows, since chance is in what clicks say, and not above 0 where vectors tell nothing."""


def engaged(users: NDArray[np.int64], items: NDArray[np.int64], clicks: Floats, size: int, align: Align) -> Engaged:
    """Return what clicks say of items: the leading directions of clicks that rates of user and item do not explain.

    Args:
        users: int64 ``[rows]``, numbered from 0.
        items: int64 ``[rows]``, numbered from 0.
        clicks: float32 ``[rows]``, 0 or 1.
        size: n, of items.
        align: width.

    Raises:
        BadInputError: all rows are clicks or none is, or users or items are too few for the width.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    rate = float(clicks.mean()) if len(clicks) else 0.0
    if not 0 < rate < 1:
        raise BadInputError(
            f"align: {'all' if rate else 'none'} of the {len(clicks):,} rows to learn from has {align.feedback!r}, "
            "which tells no item from another: learn from rows with and without, or leave align out"
        )
    shape = int(users.max()) + 1, size
    if align.width >= (least := min(shape)):
        raise BadInputError(
            f"align: {align.width} directions of {shape[0]:,} users and {shape[1]:,} items: set width below {least}"
        )
    of_user, of_item = (
        (np.bincount(ids, clicks, count) + _RATE_ROWS * rate) / (np.bincount(ids, minlength=count) + _RATE_ROWS)
        for ids, count in zip((users, items), shape, strict=True)
    )
    expected = 1 / (1 + np.exp(-(_logit(of_user)[users] + _logit(of_item)[items] - _logit(np.array(rate)))))
    more = csr_matrix((clicks - expected, (users, items)), shape=shape)
    _, sizes, directions = svds(more, k=align.width, v0=np.ones(min(shape)))
    rows = np.bincount(items, minlength=size)
    return Engaged(directions.T * sizes / (rows + _ROWS)[:, None], rows)


def turn_of(ready: Floats, said: Engaged, align: Align) -> Turn:
    """Return how vectors are turned.

    Args:
        ready: float32 ``[n, D]``, centred, of mean square 1.
        said: what clicks say of the same items.
        align: weight.

    Raises:
        BadInputError: no item was shown.
    """
    known = said.rows > 0
    if not known.any():
        raise BadInputError("align: no item to learn from has a row: learn from more rows, or leave align out")
    x, y, shown = ready[known].astype(np.float64), said.vectors[known], said.rows[known]
    weight = shown / (shown + _ROWS)  # beyond that an item is not what vectors say, however often it was shown
    square = (x * weight[:, None]).T @ x
    square += _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    towards = np.linalg.solve(square, (x * weight[:, None]).T @ y)
    found = x @ towards
    own = weight * np.einsum("nd,nd->n", x, np.linalg.solve(square, x.T).T)
    missed = ((y - found) / (1 - np.minimum(own, 0.99))[:, None]) ** 2  # of an item by all others
    told = 1 - float((weight * missed.sum(axis=1)).sum() / (weight * (y**2).sum(axis=1)).sum())
    scale = np.sqrt((found**2).sum(axis=1).mean()) or 1.0
    beside = np.sqrt(align.weight) * towards / scale
    matrix = np.concatenate([np.sqrt(1 - align.weight) * np.eye(ready.shape[1]), beside], axis=1)
    return Turn(matrix.astype(np.float32), told)


def turned(ready: Floats, matrix: Floats) -> Floats:
    """Return float32 ``[n, E]``, vectors float32 ``[n, D]`` turned by ``[D, E]``."""
    return (ready.astype(np.float64) @ matrix.astype(np.float64)).astype(np.float32)


def _logit(rate: Numbers) -> Numbers:
    return np.asarray(np.log(rate / (1 - rate)))
