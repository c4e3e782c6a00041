"""Which raw rows does a question mean? One per candidate: what the question gives, and what the online store holds.

A column that the question gives wins over the store. What nobody knows is missing, as it was in training before a
first event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from features.ground.errors import did_you_mean
from features.services.served import ServedColumn, ServedFeatures
from registry.serving.live.kept import Found, Places
from registry.serving.live.lookup import Lookup
from registry.serving.live.lookup import Question as Asked
from registry.serving.wire.protocol import Question, RefusedError, column

if TYPE_CHECKING:
    import pyarrow as pa

    from features.declaration import Declaration

DAY = 86_400.0
_FREE = {"BOOL": "bool", "BYTES": "string", "FP32": "float32", "FP64": "float64"}
"""Feast dtypes of tensors for columns that no file tells the type of; all others are whole numbers."""


@dataclass(frozen=True)
class Reads:
    """Which columns a model's rows have, and where they come from."""

    declaration: Declaration
    needed: tuple[str, ...]
    """Columns that an answer needs, those of its memory included."""
    columns: Mapping[str, ServedColumn]
    """What is known of them, and of the keys that they are looked up by."""

    @classmethod
    def of(
        cls, declaration: Declaration, needed: Sequence[str], dtypes: Mapping[str, str], served: ServedFeatures | None
    ) -> Reads:
        """Return them.

        Args:
            declaration: roles of the columns.
            needed: columns that an answer needs.
            dtypes: Feast dtypes that the encoder knows.
            served: where columns come from; None where every question gives all of them.
        """
        known = {name: ServedColumn(name=name, dtype=dtype) for name, dtype in dtypes.items()}
        known[declaration.time] = ServedColumn(name=declaration.time, dtype="unix_timestamp")
        if served is not None:
            known |= served.by_name
        return cls(declaration, tuple(sorted({*needed, declaration.item})), known)

    @cached_property
    def names(self) -> frozenset[str]:
        """Columns that a question may give."""
        roles = {self.declaration.time, *filter(None, [self.declaration.request])}
        return frozenset({*self.needed, *self.columns, *roles})

    @property
    def told(self) -> tuple[str, ...]:
        """Columns that a question tells and no view holds."""
        views = {name for name, column in self.columns.items() if column.view is not None}
        return tuple(sorted(self.names - views))

    def dtype(self, name: str) -> str | None:
        """Return the Feast dtype of a column, or None where nothing tells it."""
        found = self.columns.get(name)
        return found.dtype if found is not None else None


@dataclass
class Rows:
    """Raw rows, and what was missing of them."""

    table: pa.Table
    late: bool = False
    """Whether the online store did not answer in time."""
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By view and reason (``unknown``, ``expired``, ``store``), rows without its values."""
    given: Counter[str] = field(default_factory=Counter)
    """By view, how many of its columns the question gave itself."""
    looked: int = 0
    """Items whose features were looked for among those that are kept."""
    kept: int = 0
    """Those of them that were there."""
    user_known: bool = True
    """Whether any view holds something of the user, where one is asked."""
    shared: frozenset[str] = frozenset()
    """Columns of which it is known that all rows hold the same: what is made of them is made once."""


def rows_of(
    question: Question,
    reads: Reads,
    lookup: Lookup | None,
    now: datetime,
    most: int,
    known: Rows | None = None,
) -> Rows:
    """Return the rows that a question means.

    Args:
        question: tensors by column.
        reads: what the model reads.
        lookup: the online store; None takes what the question gives.
        now: time of the request where the question does not give one, UTC.
        most: candidates that one question may have.
        known: raw rows of the same candidates, as another model read them; what they hold is not looked up.

    Raises:
        RefusedError: 400, a tensor fits no column, or there are no candidates or too many.
    """
    import pyarrow as pa

    from features.joins.store import arrow_type

    declaration = reads.declaration
    count = _candidates(question, declaration.item, most)
    _check_names(question, reads)
    have: dict[str, pa.Array] = {
        name: column(tensor, reads.dtype(name) or _own_dtype(tensor.datatype, len(tensor.shape)), count)
        for name, tensor in question.tensors.items()
    }
    if known is not None:
        table = known.table
        have |= {
            name: (table[name].slice(0, 1) if name in known.shared else table[name]).combine_chunks()
            for name in table.column_names
            if name in reads.names
        }
    if declaration.time not in have:
        have[declaration.time] = pa.array([now], pa.timestamp("us", "UTC"))
    if declaration.request is not None and declaration.request not in have:  # one question is one request
        have[declaration.request] = pa.array([0], pa.int64())
    rows = Rows(pa.table({}))
    moment = have[declaration.time][0].as_py() or now
    if lookup is not None:
        _fetch(reads, lookup, have, rows, moment.timestamp(), count)
    wanted = {*reads.needed, declaration.time} | ({declaration.request} if declaration.request else set())
    for name in sorted(wanted - have.keys()):
        have[name] = pa.nulls(1, arrow_type(reads.dtype(name) or "string"))
    rows.shared = frozenset(name for name in wanted if len(have[name]) == 1)
    again = pa.array(np.zeros(count, dtype=np.int64)) if count > 1 else None
    rows.table = pa.table(
        {
            name: have[name].take(again) if again is not None and name in rows.shared else have[name]
            for name in sorted(wanted)
        }
    )
    return rows


def _candidates(question: Question, item: str, most: int) -> int:
    tensor = question.tensors.get(item)
    if tensor is None:
        raise RefusedError(400, f"the question has no input {item!r}, the candidates: send their ids")
    count = tensor.shape[0]
    if not 1 <= count <= most:
        raise RefusedError(400, f"the question has {count} candidates: send 1 to {most:,}")
    return count


def _check_names(question: Question, reads: Reads) -> None:
    for name in question.tensors:
        if name not in reads.names:
            hint = did_you_mean(name[:63], reads.names)
            raise RefusedError(400, f"the model reads no input {name[:63]!r}{hint}: leave it out")


def _own_dtype(datatype: str, dimensions: int) -> str:
    element = _FREE.get(datatype, "int64")
    return f"array<{element}>" if dimensions == 2 else element


def _fetch(reads: Reads, lookup: Lookup, have: dict[str, pa.Array], rows: Rows, moment: float, count: int) -> None:
    """Add the columns that views hold, those first whose keys are known; they may be the keys of others.

    A column of one row holds for all `count`.
    """
    wanted: dict[str, list[ServedColumn]] = {}
    keys = {key for name in reads.needed if (one := reads.columns.get(name)) for key in one.keys}
    for name in sorted({*reads.needed, *keys}):
        one = reads.columns.get(name)
        if one is not None and one.view is not None:
            if name in have:
                rows.given[one.view] += 1
            else:
                wanted.setdefault(one.view, []).append(one)
    user = reads.declaration.user
    known_users = []
    while ready := [view for view, columns in wanted.items() if {*columns[0].keys} <= have.keys()]:
        asked, places = [], []
        for view in ready:
            unique, at = _unique([have[key] for key in sorted(wanted[view][0].keys)], count)
            names = tuple(one.name for one in wanted[view])
            asked.append(Asked(view, names, tuple(unique), kept=user not in wanted[view][0].keys))
            places.append(at)
        for view, question, at, found in zip(ready, asked, places, lookup.ask(asked), strict=True):
            columns = wanted.pop(view)
            if question.kept:
                rows.looked, rows.kept = rows.looked + len(question.keys), rows.kept + found.kept
            have |= _columns(columns, question, at, found, rows, moment, count)
            if columns[0].keys == (user,):
                known_users.append(bool(found.held.any()))
    for view in wanted:
        rows.missing[view, "unknown"] += count
    if known_users or any(columns[0].keys == (user,) for columns in wanted.values()):
        rows.user_known = any(known_users)


def _unique(keys: Sequence[pa.Array], count: int) -> tuple[list[tuple[Any, ...]], Places]:
    """Return each combination of keys once, and for each row its place among them, −1 where a key is missing.

    There is one row, which holds for all, where each key has one; else there are `count`.
    """
    if all(len(values) == 1 for values in keys):
        only = tuple(values[0].as_py() for values in keys)
        return ([], np.array([-1])) if None in only else ([only], np.array([0]))
    if len(keys) == 1:
        coded = keys[0].dictionary_encode()
        places = coded.indices.fill_null(-1) if keys[0].null_count else coded.indices
        return [(value,) for value in coded.dictionary.to_pylist()], places.to_numpy().astype(np.int64)
    seen: dict[tuple[Any, ...], int] = {}
    at = np.empty(count, dtype=np.int64)
    lists = [values.to_pylist() * (1 if len(values) == count else count) for values in keys]
    for row, key in enumerate(zip(*lists, strict=True)):
        at[row] = -1 if None in key else seen.setdefault(key, len(seen))
    return list(seen), at


def _columns(
    columns: Sequence[ServedColumn], asked: Asked, at: Places, found: Found, rows: Rows, moment: float, count: int
) -> dict[str, pa.Array]:
    """Return the columns of one view for the rows of `at`, and count what is missing of `count` rows."""
    import pyarrow as pa

    from features.joins.store import arrow_type

    life = columns[0].ttl_days * DAY
    expired = found.held & (found.at + life < moment) if life else np.zeros(len(found.held), dtype=bool)
    each = count // len(at)  # rows that a place stands for
    rows_of_key = np.bincount(at[at >= 0], minlength=len(asked.keys)) * each
    reasons = {
        "unknown": int(rows_of_key[found.told & ~found.held].sum()) + int((at < 0).sum()) * each,
        "store": int(rows_of_key[~found.told].sum()),
        "expired": int(rows_of_key[expired].sum()),
    }
    rows.late |= found.late
    rows.missing.update({(asked.view, reason): number for reason, number in reasons.items() if number})
    if expired.any():
        for values in found.columns:
            values[expired] = None
    in_order = len(at) == len(asked.keys) and bool((at == np.arange(len(at))).all())
    indices = None if in_order else pa.array(at, mask=at < 0)
    made = {}
    for one, values in zip(columns, found.columns, strict=True):
        array = pa.array(values.tolist(), arrow_type(one.dtype))
        made[one.name] = array if indices is None else array.take(indices)
    return made
