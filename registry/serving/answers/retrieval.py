"""Which k items suit each user best, when the score is an inner product? Exact search over all items.

A ranker whose score is ``<user, item> + constant`` (GNOLR's unified embeddings) ranks a catalogue by
one nearest-neighbour search, and finds what it would have ranked highest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from features.ground.errors import BadInputError
from registry.serving.answers.answer import answer
from registry.serving.answers.excluded import NONE, Pairs
from registry.serving.incoming import check_identity
from registry.serving.model.separable import SEPARABLE, Vectors, unified_halves

if TYPE_CHECKING:
    from registry.serving.model.served_model import ServedModel

CELLS = 1 << 24
"""Scores held at a time: users are searched in chunks of about this many user-item pairs."""


@dataclass(frozen=True)
class Retrieved:
    """The best k items of U users, best first; of equal scores the item with the smaller row is first.

    Where exclusions leave a user fewer than k, the rest of the row is excluded items with a score of −∞.
    """

    items: np.ndarray[Any, np.dtype[np.int64]]
    """int64 ``[U, k]``, rows of the item vectors."""
    scores: Vectors
    """float32 ``[U, k]``, inner products."""


def nearest_items(
    served: ServedModel,
    users: pa.Table,
    items: pa.Table,
    k: int,
    new_users: Counter[str] | None = None,
    new_items: Counter[str] | None = None,
    excluded: Pairs = NONE,
) -> pa.Table:
    """Return one row per user and rank: both ids, `rank` from 1, and the inner product that decides.

    A user of whom `excluded` leaves fewer than `k` items has fewer rows.

    Raises:
        BadInputError: an id column or a feature is missing, or `k` is larger than the catalogue.
    """
    declaration = served.contract.schema_.declaration
    found = retrieve(
        side_vectors(served, users, "user", new_users),
        side_vectors(served, items, "item", new_items),
        k,
        excluded,
    )
    asked = np.repeat(np.arange(users.num_rows), k)
    table = pa.table(
        {
            declaration.user: users[declaration.user].take(pa.array(asked)),
            "rank": pa.array(np.tile(np.arange(1, k + 1), users.num_rows)),
            declaration.item: items[declaration.item].take(pa.array(found.items.reshape(-1))),
            "score": pa.array(found.scores.reshape(-1)),
        }
    )
    return table.filter(pa.array(np.isfinite(found.scores.reshape(-1)))) if len(excluded) else table


def retrieve(users: Vectors, items: Vectors, k: int, excluded: Pairs = NONE) -> Retrieved:
    """Return the k items with the largest inner product for each user, of those that are not excluded.

    Args:
        users: float ``[U, D]``.
        items: float ``[I, D]``.
        k: items per user, at most I.
        excluded: pairs that nobody gets, sorted by user.

    Raises:
        BadInputError: shapes do not fit, a vector is not finite, or there are fewer than k items.
    """
    users, items = _vectors(users, "user"), _vectors(items, "item")
    if users.shape[1] != items.shape[1]:
        raise BadInputError(
            f"user vectors are {users.shape[1]} wide and item vectors {items.shape[1]}: take both from the same model"
        )
    if not 1 <= k <= len(items):
        raise BadInputError(f"k is {k}, must be between 1 and the {len(items)} items there are: change k")
    found = np.empty((len(users), k), dtype=np.int64)
    scores = np.empty((len(users), k), dtype=np.float32)
    step = max(1, CELLS // len(items))
    for start in range(0, len(users), step):
        chunk = users[start : start + step] @ items.T
        first, last = np.searchsorted(excluded[:, 0], [start, start + step])
        chunk[excluded[first:last, 0] - start, excluded[first:last, 1]] = -np.inf
        best = _best(chunk, k)
        found[start : start + step] = best
        scores[start : start + step] = np.take_along_axis(chunk, best, axis=1)
    return Retrieved(items=found, scores=scores)


def side_vectors(
    model: ServedModel, rows: pa.Table, side: Literal["user", "item"], unknown: Counter[str] | None = None
) -> Vectors:
    """Return what a served model places one side of each row at, float32 ``[rows, D]``.

    A vector depends on its own side only, so columns of the other side may be absent.

    Raises:
        BadInputError: the ranker is no such ranker or reads what is made within a request, a column of this side is
            missing, or an id is missing or comes twice.
    """
    contract = model.contract
    if contract.ranker not in SEPARABLE:
        raise BadInputError(
            f"ranker {contract.ranker!r} scores pairs, not vectors of users and items: retrieve with a model of "
            f"{' or '.join(map(repr, SEPARABLE))}"
        )
    if contract.schema_.pairs:
        raise BadInputError(
            f"feature {contract.schema_.pairs[0]!r} of {model.label or 'the model'} depends on a user and an item "
            f"together, which no vector of one of them holds: rank candidates with `rankmill score`, or train with "
            f"drop: [{', '.join(contract.schema_.pairs)}]"
        )
    made = contract.schema_.declaration.within.keys() & {field.name for field in contract.fields}
    if made:
        raise BadInputError(
            f"{', '.join(map(repr, sorted(made)))} compares an item with those shown beside it, so no item has a "
            "vector of its own: retrieve with a model that is trained without within"
        )
    others = {
        field.name
        for field in contract.fields
        if field.kind == "elapsed" or (contract.schema_.sides.get(field.name) == "item") != (side == "item")
    }
    own = contract.schema_.declaration
    absent = []
    for name in model.encoder.columns:
        if name in rows.column_names:
            continue
        if name in others:
            rows = rows.append_column(name, pa.nulls(rows.num_rows))
        elif name == contract.schema_.declaration.time:
            # Only elapsed times count from it, which a separable ranker does not read.
            moments = [datetime.fromtimestamp(0, UTC)] * rows.num_rows
            rows = rows.append_column(name, pa.array(moments, pa.timestamp("us", "UTC")))
        else:
            absent.append(name)
    if absent:
        raise BadInputError(
            f"{side} rows have no column {', '.join(map(repr, absent))}, which {model.label or 'the model'} needs: add "
            "what is missing"
        )
    check_identity(rows, own.user if side == "user" else own.item, side)
    said = answer(model, rows)
    if unknown is not None:
        unknown.update({name: count for name, count in said.unknown.items() if name not in others})
    user, item = unified_halves(said.hidden)
    return user if side == "user" else item


def _best(scores: Vectors, k: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return int64 ``[U, k]``: columns by falling score, then by rising number."""
    # The k-th largest score of each row; everything above it is in, and ties with it by the smaller column.
    least = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
    above, level = scores > least, scores == least
    kept = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    columns = np.nonzero(kept)[1].reshape(len(scores), k)
    order = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _vectors(values: Vectors, what: str) -> Vectors:
    if values.ndim != 2 or not values.shape[1]:
        raise BadInputError(f"{what} vectors have shape {list(values.shape)}, must be [{what}s, width]")
    if not np.isfinite(values).all():
        row = int(np.nonzero(~np.isfinite(values).all(axis=1))[0][0])
        raise BadInputError(f"the vector of {what} {row} is not finite: train the model again")
    return np.ascontiguousarray(values, dtype=np.float32)
