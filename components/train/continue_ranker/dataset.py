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

from components.data.training_set import SPLITS, read_encoded, read_raw, read_schema, write_encoded
from components.train.continue_ranker.config import LAST_SEEN, TableGrowth
from components.train.continue_ranker.likeness import domain_tables
from components.train.continue_ranker.vocabulary import Known, grow, seen_in
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder, write_encoder
from features.services.served import FEATURES
from registry.serving.incoming import placed

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
    for name in SPLITS:
        encoded = read_encoded(dataset, name, read_schema(dataset))
        raw = read_raw(dataset, name, shared=True)
        features = grown.encoder.encode_slices(raw if name == "train" else placed(raw, schema.declaration))
        write_encoded(to / "encoded" / f"{name}.arrow", replace(encoded, features=features, pages=None))
    (to / "schema.json").write_text(schema.model_dump_json(indent=2), encoding="utf-8")
    write_encoder(grown.encoder, to)
    save_file(grown.last_seen, str(to / LAST_SEEN))
    (to / TABLES).write_bytes(_COUNTS.dump_json(grown.tables, indent=2))


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
