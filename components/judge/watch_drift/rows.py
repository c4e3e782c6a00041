"""Which rows does a watch judge, and what was answered to them? A window's rows, a span of days at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.platform.errors import BadInputError
from registry.serving.log.segments import ANSWER, BASE, SERVED, hashed_in

if TYPE_CHECKING:
    import pyarrow as pa

    from features.declaration import Declaration
    from registry.serving.model.served_model import ServedModel

Array = NDArray[Any]
ASKED_AGAIN = 2000
"""Rows of a day's log that are asked again, about; whole questions."""
_VERSION, _DIGEST, _REQUEST = f"{SERVED}version", f"{SERVED}digest", f"{SERVED}request"


@dataclass(frozen=True)
class Rows:
    """Labelled rows in the order that they are stored in."""

    tables: tuple[pa.Table, ...]
    """Raw rows; histories may share their events."""
    moments: tuple[Array, ...]
    """Of each table: int64 ``[rows]`` µs since 1970 UTC."""
    answers: pa.Table | None
    """What a service answered, row by row as the only table; None where the rows come from no log."""
    hashed: frozenset[str]
    """Columns that hold hashes instead of values."""

    @property
    def columns(self) -> frozenset[str]:
        """Columns that hold values."""
        return frozenset(self.tables[0].column_names) - self.hashed

    def between(self, start: datetime, end: datetime) -> tuple[pa.Table, pa.Table | None]:
        """Return the rows of ``[start, end)``, histories as plain lists, and what was answered to them."""
        import pyarrow as pa

        from features.joins.histories import listed

        first, last = (int(moment.timestamp() * 1e6) for moment in (start, end))
        places = [np.flatnonzero((moments >= first) & (moments < last)) for moments in self.moments]
        parts = [listed(table.take(pa.array(at))) for table, at in zip(self.tables, places, strict=True)]
        whole = pa.concat_tables(parts, promote_options="default")
        return whole, None if self.answers is None else self.answers.take(pa.array(places[0]))


def read_rows(folder: Path, time: str) -> Rows:
    """Return the rows of a `LabelledRows`: of a log with what was answered, or of all splits of a training set.

    Raises:
        BadInputError: the rows have no time, or the answers are those of other rows.
    """
    import pyarrow as pa

    from components.data.training_set import SPLITS, read_raw
    from components.ingest.ingest_served.answers import read_answers
    from features.joins.histories import read_table

    whole = folder / "raw" / "rows.parquet"
    tables = (read_table(whole),) if whole.is_file() else tuple(read_raw(folder, one, shared=True) for one in SPLITS)
    answers = read_answers(folder)
    if time not in tables[0].column_names:
        raise BadInputError(f"the rows have no column {time!r}, by which days are told apart: do not drop it")
    if answers is not None and not answers["row_id"].equals(tables[0]["row_id"]):
        raise BadInputError("the answers of the log are not those of its rows: run ingest_served again")
    micros = pa.timestamp("us", "UTC")
    moments = tuple(np.asarray(table[time].cast(micros).cast(pa.int64()).to_numpy()) for table in tables)
    return Rows(tables, moments, answers, frozenset(hashed_in(tables[0].schema)))


def some_users(users: pa.ChunkedArray, most: int) -> Array:
    """Return which of ``[rows]`` are kept so that about `most` are: all rows of a user or none, always the same users.

    A hash of the id chooses them, so that the same people are watched every day.
    """
    import pyarrow as pa

    coded = users.cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
    if len(coded) <= most:
        return np.ones(len(coded), dtype=bool)
    bound = most / len(coded) * 2**64
    kept = np.array([_place(text) < bound for text in coded.dictionary.to_pylist()], dtype=bool)
    return np.asarray(kept[coded.indices.to_numpy(zero_copy_only=False)])


def _place(text: str | None) -> int:
    return int.from_bytes(hashlib.blake2b((text or "").encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Answered:
    """What a version answered to rows."""

    own: Array
    """bool ``[rows]``: those that this version answered."""
    base: dict[str, Array]
    """By task float64 ``[rows]``, before an error memory; not a number where another version answered."""
    served: dict[str, Array] | None
    """The same as callers got it; None of rows that no service answered."""


def answered(model: ServedModel, digest: str, table: pa.Table, answers: pa.Table | None) -> Answered:
    """Return what a version answered: by the log, or by asking it now."""
    from registry.serving.answers.answer import answer

    if answers is None:
        return Answered(np.ones(table.num_rows, dtype=bool), dict(answer(model, table).base), None)
    own = np.asarray(answers[_DIGEST].to_numpy(zero_copy_only=False) == digest, dtype=bool)

    def logged(prefix: str) -> dict[str, Array]:
        names = {task: f"{prefix}{task}" for task in model.contract.tasks}
        kept = {task: name for task, name in names.items() if name in answers.column_names}
        return {task: np.asarray(answers[name].to_numpy(), dtype=np.float64) for task, name in kept.items()}

    return Answered(own, logged(BASE), logged(ANSWER))


def asked_again(answers: pa.Table, own: Array) -> Array:
    """Return places of about `ASKED_AGAIN` rows of a log, whole questions from all over the day."""
    from registry.gate.paired import codes_of

    question = codes_of(answers, _REQUEST)
    mine = np.unique(question[own])
    if not mine.size:
        return np.zeros(0, dtype=np.int64)
    each = max(1, int(own.sum()) // ASKED_AGAIN)
    return np.flatnonzero(own & np.isin(question, mine[::each]))


def unknown_flags(model: ServedModel, table: pa.Table) -> dict[str, Array]:
    """Return by field with a vocabulary which rows hold a value that training never held."""
    from features.declaration import UNKNOWN
    from registry.serving.model.served_model import CHUNK

    encoder = model.encoder
    names = [field.name for field in encoder.fitted if encoder.with_vocabulary(field)]
    rows = model.rows(table)
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for start in range(0, rows.num_rows, CHUNK):
        batch = encoder.encode(rows.slice(start, CHUNK))
        for name in names:
            values = batch[name]
            parts[name].append((values == UNKNOWN).reshape(len(values), -1).any(axis=1))
    return {name: np.concatenate(found) for name, found in parts.items() if found}


def readable(model: ServedModel, columns: frozenset[str], declaration: Declaration) -> bool:
    """Return whether rows with these columns can be asked again: they hold all that the model reads."""
    from registry.serving.answers.answer import columns_of

    return {*columns_of(model, columns)} <= columns and declaration.time in columns
