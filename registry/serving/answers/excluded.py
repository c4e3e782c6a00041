"""Which items must a user not get again? Pairs of user and item, from the histories in the users' rows or a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.ground.errors import BadInputError, did_you_mean
from registry.serving.incoming import check_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from features.declaration import RankerSchema

Pairs = np.ndarray[Any, np.dtype[np.int64]]
"""int64 ``[P, 2]``: row of the user, row of the item; sorted, each pair once."""
NONE: Pairs = np.empty((0, 2), dtype=np.int64)


def pairs_seen(schema: RankerSchema, users: pa.Table, items: pa.Table) -> Pairs:
    """Return the pairs that the users' rows tell: every value of a history of items that the model reads, however old.

    Raises:
        BadInputError: the model reads no history of items, or the rows lack one.
    """
    item, histories = schema.declaration.item, histories_of(schema)
    check_columns(users, dict.fromkeys(histories, "history"), "--exclude seen")
    found = [NONE]
    for name in histories:
        lists = users[name].combine_chunks()
        found.append(_placed(pc.list_parent_indices(lists), _places(pc.list_flatten(lists), items[item])))
    return np.unique(np.concatenate(found), axis=0)


def histories_of(schema: RankerSchema) -> list[str]:
    """Return the fields that tell which items a user had.

    Raises:
        BadInputError: the model reads no history of items.
    """
    item = schema.declaration.item
    table = next((f.table for f in schema.fields if f.name == item and f.kind == "categorical"), None)
    histories = [
        f.name
        for f in schema.fields
        if f.kind == "sequence" and f.table == table and schema.sides.get(f.name) != "item"
    ]
    if table is None or not histories:
        raise BadInputError(
            f"this model reads no history with the values of {item!r}, so nothing says what a user has seen: name the "
            "items to leave out"
        )
    return histories


def pairs_listed(schema: RankerSchema, listed: pa.Table, users: pa.Table, items: pa.Table, file: str) -> Pairs:
    """Return the pairs of a table with a column of users and one of items; those of others count for nothing.

    Raises:
        BadInputError: a column is missing.
    """
    user, item = schema.declaration.user, schema.declaration.item
    for name in (user, item):
        if name not in listed.column_names:
            hint = did_you_mean(name, listed.column_names)
            raise BadInputError(f"{file} has no column {name!r}{hint}: pairs are in columns {user!r} and {item!r}")
    return np.unique(_placed(_places(listed[user], users[user]), _places(listed[item], items[item])), axis=0)


def joined(pairs: Sequence[Pairs]) -> Pairs:
    """Return all pairs, each once."""
    return np.unique(np.concatenate([NONE, *pairs]), axis=0)


def _places(values: Any, among: pa.ChunkedArray) -> Any:
    """Return the place of each value, null where it is not there; ids are compared as text, whatever their types."""
    return pc.index_in(values.cast(pa.string()), value_set=among.combine_chunks().cast(pa.string()), skip_nulls=True)


def _placed(users: Any, items: Any) -> Pairs:
    pair = [np.asarray(pc.fill_null(side, -1).to_numpy(), dtype=np.int64) for side in (users, items)]
    pairs = np.stack(pair, axis=1)
    return pairs[(pairs >= 0).all(axis=1)]
