"""Which rankers have a vector of the user and one of the item, and where do they stand in what a graph answers?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.ground.errors import BadInputError

if TYPE_CHECKING:
    from registry.serving.model.served_model import ServedModel

SEPARABLE = ("gnolr",)
"""Rankers whose ``hidden`` is the vector of the row's user, then that of its item, their inner product the score."""

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def user_vectors(served: ServedModel, hidden: Vectors) -> Vectors:
    """Return the vectors of rows' users in what a model answered as ``hidden``, float32 ``[B, D]``.

    Raises:
        BadInputError: the ranker has no vectors of users alone.
    """
    contract = served.contract
    if contract.ranker not in SEPARABLE:
        raise BadInputError(
            f"ranker {contract.ranker!r} has no vectors of users, whose clusters explore together: use a model of "
            f"{' or '.join(map(repr, SEPARABLE))}"
        )
    return unified_halves(hidden)[0]


def unified_halves(hidden: Vectors) -> tuple[Vectors, Vectors]:
    """Return the users' and the items' vectors that a GNOLR graph answers as ``hidden``.

    Args:
        hidden: float32 ``[B, 2·D]``.

    Raises:
        BadInputError: its width is odd.
    """
    if hidden.ndim != 2 or hidden.shape[1] % 2:
        raise BadInputError(f"hidden has shape {list(hidden.shape)}, must be [rows, 2·width]: use the ranker 'gnolr'")
    user, item = np.split(hidden, 2, axis=1)
    return user, item
