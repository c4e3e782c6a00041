"""How do answered questions become rows of the log? Many questions at once, one column after the other.

What the candidates of a question share and is a list, such as the user's history, is written with its first candidate
only; `segments` gives it back to the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from registry.serving.log.segments import ANSWER, BASE, HASHED, HIDDEN, ONCE, PLACE, SERVED, TOLD
from registry.serving.wire.pointed import Pointed

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.serving.answers.answer import Answers


@dataclass(frozen=True)
class Entry:
    """One answered question."""

    request: str
    at: datetime
    """When it was answered, UTC."""
    pointed: Pointed
    role: str
    rows: pa.Table
    """Raw rows as they were used, one per candidate."""
    answers: Answers
    degraded: tuple[str, ...]
    told: tuple[str, ...] = ()
    """Raw columns that a question tells, and no view holds."""
    propensity: float = 1.0
    """Chance with which this version, of those that might have, was to answer."""
    shared: frozenset[str] = frozenset()
    """Columns of which all rows hold the same."""

    @property
    def shape(self) -> tuple[object, ...]:
        """What entries that lie in one segment have in common."""
        tasks, hidden = tuple(self.answers.tasks), self.answers.hidden.shape[1]
        scores = self.answers.expected_value, self.answers.bonus, self.answers.first
        has = tuple(score is not None for score in scores)
        return self.rows.schema.to_string(), tasks, hidden, has, self.told, self._once()

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, about."""
        tasks = len(self.answers.base) + len(self.answers.tasks) + 1
        return int(self.rows.nbytes + self.answers.hidden.nbytes + 8 * tasks * self.rows.num_rows)

    def _once(self) -> tuple[str, ...]:
        import pyarrow as pa

        schema = self.rows.schema
        return tuple(sorted(name for name in self.shared if pa.types.is_list(schema.field(name).type)))


@dataclass(frozen=True)
class Hashes:
    """Which raw columns are kept as hashes."""

    columns: tuple[str, ...] = ()
    key: bytes = field(default=b"", repr=False)

    def of(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return texts of 32 hexadecimal digits, equal for equal values and null for missing ones."""
        import pyarrow as pa

        coded = column.combine_chunks().dictionary_encode()
        texts = coded.dictionary.cast(pa.string()).to_pylist()
        key = hashlib.blake2b(self.key, digest_size=32).digest()
        hashes = [hashlib.blake2b(text.encode(), key=key, digest_size=16).hexdigest() for text in texts]
        return pa.chunked_array([pa.array(hashes, pa.string()).take(coded.indices)])


def segment_of(
    entries: Sequence[Entry], hidden: bool, drop: Collection[str] = (), hashes: Hashes | None = None
) -> pa.Table:
    """Return the rows of entries of one shape.

    Args:
        entries: at least one.
        hidden: keep the representation.
        drop: raw columns to leave out.
        hashes: raw columns to hash; lists are left out instead.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = np.array([entry.rows.num_rows for entry in entries])
    entry_of = np.repeat(np.arange(len(entries)), counts)
    place = np.arange(len(entry_of), dtype=np.int32) - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int32)
    indices, firsts = pa.array(entry_of), pa.array(entry_of, mask=place > 0)
    once = set(entries[0]._once())
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    secret = {*hashes.columns} if hashes is not None else set()
    for name, kind in zip(entries[0].rows.column_names, entries[0].rows.schema.types, strict=True):
        if name in drop or (name in secret and pa.types.is_nested(kind)):
            continue
        if name in once:
            columns[name] = pa.chunked_array(_first(entry.rows[name]) for entry in entries).take(firsts)
        else:
            columns[name] = pa.chunked_array(chunk for entry in entries for chunk in entry.rows[name].chunks)
        if hashes is not None and name in secret:
            columns[name] = hashes.of(columns[name])
    text = pa.string()

    def told(values: Sequence[object], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(indices)

    request = told([entry.request for entry in entries], text)
    columns |= {
        f"{SERVED}request": request,
        f"{SERVED}row": pc.binary_join_element_wise(request, pa.array(place).cast(text), ":"),
        PLACE: pa.array(place),
        f"{SERVED}at": told([entry.at for entry in entries], pa.timestamp("us", "UTC")),
        f"{SERVED}version": told([entry.pointed.version for entry in entries], pa.int64()),
        f"{SERVED}digest": told([entry.pointed.digest for entry in entries], text),
        f"{SERVED}memory": told([entry.pointed.memory for entry in entries], text),
        f"{SERVED}role": told([entry.role for entry in entries], text),
        f"{SERVED}propensity": told([entry.propensity for entry in entries], pa.float64()),
        f"{SERVED}degraded": told([list(entry.degraded) for entry in entries], pa.list_(text)),
    }
    answers = [entry.answers for entry in entries]
    for task in answers[0].tasks:
        columns[f"{BASE}{task}"] = pa.array(np.concatenate([each.base[task] for each in answers]))
        columns[f"{ANSWER}{task}"] = pa.array(np.concatenate([each.tasks[task] for each in answers]))
    if answers[0].expected_value is not None:
        worth = [each.expected_value for each in answers if each.expected_value is not None]
        columns[f"{ANSWER}expected_value"] = pa.array(np.concatenate(worth))
    for name, scores in (
        ("exploration", [each.bonus for each in answers]),
        ("first_propensity", [each.first for each in answers]),
    ):
        if known := [score for score in scores if score is not None]:
            columns[f"{SERVED}{name}"] = pa.array(np.concatenate(known))
    if hidden:
        flat = np.concatenate([np.ascontiguousarray(each.hidden, dtype=np.float32) for each in answers])
        columns[HIDDEN] = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    notes = {TOLD: entries[0].told, ONCE: once & columns.keys(), HASHED: secret & columns.keys()}
    return pa.table(columns).replace_schema_metadata({key: json.dumps(sorted(names)) for key, names in notes.items()})


def _first(column: pa.ChunkedArray) -> pa.Array:
    """Return the first value, without the others that it was repeated to."""
    import pyarrow as pa

    return column.chunk(0).take(pa.array([0]))
