"""Who is asked about, of which items, and what did everybody choose before? Read from the splits of a training set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data.training_set import SPLITS, read_raw
from components.platform.errors import BadInputError
from registry.serving.answers.excluded import Pairs, pairs_listed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from components.judge.retrieve_candidates.config import Exclude
    from features.declaration import RankerSchema

Integers = NDArray[np.int64]
_AT = "__at"


@dataclass(frozen=True)
class Asking:
    """Users to find candidates for, and what is known by then."""

    users: pa.Table
    """One row per user who is asked about."""
    items: pa.Table
    """The newest row of each item that somebody was shown before."""
    around: pa.Table
    """The newest row of each user who chose an item before."""
    excluded: Pairs
    """Of `users` and `items`: what nobody gets again."""
    chosen: Pairs
    """Of `users` and `items`: what was chosen before."""
    lent: Pairs
    """Of `around` and `items`: the same."""
    same: Pairs
    """Of `users` and `around`: who is the same."""
    popularity: Integers
    """``[items]``, how many chose an item before."""


@dataclass(frozen=True)
class Wanted:
    """What the users who are asked about chose afterwards."""

    pairs: Pairs
    """Of `users` and `items`."""
    missed: Integers
    """``[users]``, how many more were chosen that nobody was shown before."""


def read_splits(folder: Path, schema: RankerSchema, label: str, columns: Collection[str]) -> dict[str, pa.Table]:
    """Return the splits of a training set: ids, time, the label and the columns of a model; rows without ids left out.

    Raises:
        BadInputError: the label is no feedback of the data set.
    """
    roles = schema.declaration
    if label not in roles.feedback:
        raise BadInputError(
            f"feedback {label!r} is not one of the training set's, {', '.join(roles.feedback)}: name one of them"
        )
    wanted = {*columns, roles.user, roles.item, roles.time, *roles.feedback}
    tables: dict[str, pa.Table] = {}
    for split in SPLITS:
        table = read_raw(folder, split, shared=True)
        table = table.select([name for name in table.column_names if name in wanted])
        known = pc.and_(pc.is_valid(table[roles.user]), pc.is_valid(table[roles.item]))
        tables[split] = table if pc.all(known).as_py() in (True, None) else table.filter(known)
    return tables


def asking(users: pa.Table, before: pa.Table, schema: RankerSchema, label: str, exclude: Exclude) -> Asking:
    """Return what is known of users when they are asked about.

    Args:
        users: one row per user.
        before: the rows that are known by then.
        schema: of the training set.
        label: what makes an item a choice.
        exclude: which earlier items nobody gets again.

    Raises:
        BadInputError: nobody is to be asked about, or nothing was shown before.
    """
    roles = schema.declaration
    if not users.num_rows or not before.num_rows:
        raise BadInputError(
            "the training set has no rows to ask about, or none before them: split it by time, with rows in each part"
        )
    positive = before.filter(pc.equal(before[label], 1))
    items = before.take(pa.array(edge(before, roles.item, roles.time, last=True)))
    around = before.take(pa.array(edge(before, roles.user, roles.time, last=True)))
    around = around.filter(pc.is_in(around[roles.user], value_set=positive[roles.user].combine_chunks()))
    places = pc.index_in(users[roles.user], value_set=around[roles.user].combine_chunks())
    both = np.stack([np.arange(users.num_rows), pc.fill_null(places, -1).to_numpy()], axis=1).astype(np.int64)
    had = {"chosen": before.filter(_any(before, roles.feedback)), "shown": before, "nothing": before.slice(0, 0)}[
        exclude
    ]
    lent = pairs_listed(schema, positive, around, items, "the training set")
    return Asking(
        users=users,
        items=items,
        around=around,
        excluded=pairs_listed(schema, had, users, items, "the training set"),
        chosen=pairs_listed(schema, positive, users, items, "the training set"),
        lent=lent,
        same=both[both[:, 1] >= 0],
        popularity=np.bincount(lent[:, 1], minlength=items.num_rows).astype(np.int64),
    )


def wanted(asked: Asking, after: pa.Table, schema: RankerSchema, label: str, horizon: timedelta | None) -> Wanted:
    """Return what the users chose from the row that they are asked at, until `horizon` later."""
    roles = schema.declaration
    rows = pl.DataFrame(
        {"user": _text(after, roles.user), "item": _text(after, roles.item), "time": _times(after, roles.time)}
    )
    first = pl.DataFrame({"user": _text(asked.users, roles.user), "first": _times(asked.users, roles.time)})
    rows = rows.with_row_index(_AT).filter(pl.Series(np.asarray(after[label].to_numpy()) == 1)).join(first, on="user")
    if horizon is not None:
        rows = rows.filter(pl.col("time") < pl.col("first") + horizon)
    chosen = after.take(pa.array(rows.sort(_AT)[_AT].to_numpy()))
    pairs = pairs_listed(schema, chosen, asked.users, asked.items, "the training set")
    number = pl.DataFrame({"user": first["user"], "row": np.arange(len(first))})
    each = rows.select("user", "item").unique().group_by("user").len().join(number, on="user")
    counts = np.zeros(len(first), dtype=np.int64)
    counts[each["row"].to_numpy()] = each["len"].to_numpy()
    return Wanted(pairs, counts - np.bincount(pairs[:, 0], minlength=len(first)))


def edge(rows: pa.Table, key: str, time: str, *, last: bool) -> Integers:
    """Return int64, the place of the first or the last row of each id in time, in the order of the ids."""
    frame = pl.DataFrame({"key": pl.from_arrow(rows[key].combine_chunks()), "time": _times(rows, time)})
    ordered = frame.with_row_index(_AT).sort("time", _AT)
    kept = ordered.unique("key", keep="last" if last else "first", maintain_order=True).sort("key")
    return np.asarray(kept[_AT].to_numpy(), dtype=np.int64)


def _any(rows: pa.Table, feedback: Sequence[str]) -> Any:
    return reduce(pc.or_, [pc.fill_null(pc.equal(rows[name], 1), False) for name in feedback])


def _times(rows: pa.Table, time: str) -> pl.Series:
    return pl.Series(pl.from_arrow(rows[time].combine_chunks()))


def _text(rows: pa.Table, name: str) -> Any:
    return pl.Series(pl.from_arrow(rows[name].combine_chunks())).cast(pl.String)
