"""How does a training set get the vocabularies of a continued ranker? The same rows, encoded anew."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from safetensors.numpy import load_file, save_file

from components.data.table_vectors import ATTACHED, TableVectors, read_table, tables_of, write_table
from components.data.training_set import (
    SPLITS,
    encode_split,
    read_encoded,
    read_raw,
    read_schema,
    users_of,
    write_encoded,
)
from components.train.continue_ranker.config import LAST_SEEN, TableGrowth
from components.train.continue_ranker.likeness import domain_tables
from components.train.continue_ranker.vocabulary import Known, grow, seen_in
from features.declaration import FIRST
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder, write_encoder
from features.encoding.vocabularies import ABSENT
from features.services.served import FEATURES

TABLES = "tables.json"
_COUNTS = TypeAdapter(tuple[TableGrowth, ...])


def regrow(dataset: Path, before: Path | None, to: Path, forget_after_days: int | None) -> tuple[TableGrowth, ...]:
    """Write the training set with today's and the predecessor's vocabularies, once, and return the counts.

    Beside the files of a training set lie `LAST_SEEN` and `TABLES`. A folder that is there already is left as it is:
    a training process may be reading it.

    Args:
        dataset: local directory of a `TrainingSet`.
        before: local directory of the predecessor's `Ranker`, encoded alike; None starts from nothing.
        to: directory to make.
        forget_after_days: see `grow`.
    """
    if not to.exists():
        partial = to.with_name(f".{to.name}-{uuid.uuid4().hex}")
        try:
            _write(dataset, before, partial, forget_after_days)
            partial.rename(to)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _COUNTS.validate_json((to / TABLES).read_bytes())


def _write(dataset: Path, before: Path | None, to: Path, forget_after_days: int | None) -> None:
    today, schema = read_encoder(dataset), read_schema(dataset)
    seen = seen_in(dataset / "raw" / "train.parquet", today, schema.declaration.time)
    known = remembered(before) if before else None
    grown = grow(today, seen, known, forget_after_days, domain_tables(schema))
    starts = [schema.trained_from, read_schema(before).trained_from if before else None]
    from_ = min((time for time in starts if time is not None), default=None)
    schema = schema.model_copy(update={"fields": grown.encoder.fields, "trained_from": from_})
    shutil.copytree(dataset / "raw", to / "raw")
    for name in ("report.json", FEATURES):
        if (dataset / name).exists():
            shutil.copy(dataset / name, to / name)
    users = users_of(dataset, schema)
    for name in SPLITS:
        split = encode_split(read_raw(dataset, name, shared=True), name, grown.encoder, schema, users)
        if (dataset / "encoded").exists():  # where rows lie in no split, its codes of users are others
            split = replace(split, user=read_encoded(dataset, name, read_schema(dataset)).user)
        write_encoded(to / "encoded" / f"{name}.arrow", split)
    for table in tables_of(dataset):
        write_table(to, table, regrown(read_table(dataset, table), table, today, grown.encoder, before))
        shutil.copy(dataset / ATTACHED / f"{table}.json", to / ATTACHED / f"{table}.json")
    (to / "schema.json").write_text(schema.model_dump_json(indent=2), encoding="utf-8")
    write_encoder(grown.encoder, to)
    save_file(grown.last_seen, str(to / LAST_SEEN))
    (to / TABLES).write_bytes(_COUNTS.dump_json(grown.tables, indent=2))


def regrown(held: TableVectors, table: str, today: Encoder, grown: Encoder, before: Path | None) -> TableVectors:
    """Return the vectors of a table in the order of today's and the predecessor's values.

    A value that today's training set does not hold keeps the predecessor's vector, and none if that read no vectors.

    Args:
        held: of today's training set.
        table: its name.
        today: encoder of today's training set.
        grown: encoder with the values of both.
        before: local directory of the predecessor; None starts from nothing.
    """
    values = grown.vocabularies[table].values
    vectors = np.zeros((FIRST + len(values), held.vectors.shape[1]), dtype=np.float32)
    learned = np.zeros(len(vectors), dtype=np.uint8)
    learned[:FIRST] = 1
    if before is not None:
        place = read_encoder(before).vocabularies[table].places(values)
        there = np.flatnonzero(place != ABSENT)
        earlier = _read_by(before, table)
        at = FIRST + place[there]
        vectors[FIRST + there] = 0.0 if earlier is None else earlier.vectors[at]
        learned[FIRST + there] = 1 if earlier is None else earlier.learned[at]
    place = today.vocabularies[table].places(values)
    there = np.flatnonzero(place != ABSENT)
    at = FIRST + place[there]
    vectors[FIRST + there] = held.vectors[at]
    learned[FIRST + there] |= held.learned[at]
    return TableVectors(vectors, learned)


def _read_by(ranker: Path, table: str) -> TableVectors | None:
    """Return the vectors that a ranker read of a table, or None where it read none."""
    from safetensors import safe_open

    from components.train.ranker_files import WEIGHTS

    fields = read_schema(ranker).fields
    order = [*dict.fromkeys(str(field.table) for field in fields if field.embedded and field.content)]
    name = f"embedding.content.{order.index(table)}." if table in order else ""
    if not name or not (ranker / WEIGHTS).exists():
        return None
    with safe_open(str(ranker / WEIGHTS), framework="numpy") as kept:
        if f"{name}vectors" not in kept.keys():  # noqa: SIM118  # no mapping
            return None
        return TableVectors(kept.get_tensor(f"{name}vectors"), kept.get_tensor(f"{name}learned").astype(np.uint8))


def remembered(ranker: Path) -> Known:
    """Return what a ranker knew; of one that was not continued, every value counts as seen on its last day."""
    encoder = read_encoder(ranker)
    if (ranker / LAST_SEEN).exists():
        return Known(encoder, load_file(str(ranker / LAST_SEEN)))
    return Known(encoder, _seen_at_the_end(ranker, encoder))


def _seen_at_the_end(ranker: Path, encoder: Encoder) -> Mapping[str, np.ndarray[Any, Any]]:
    until = read_schema(ranker).trained_until
    # Without a time nothing can be said: such a value is as old as values get.
    day = int(until.timestamp() // 86_400) if until is not None else 0
    return {table: np.full(len(values), day, dtype=np.int32) for table, values in encoder.vocabularies.items()}
