"""Which rows of a real training set do others train on? Padded arrays, in files that they read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.data.training_set import DOMAIN, USER, EncodedSplit, SplitName, read_encoded, read_schema
from features.declaration import PADDING, RankerSchema
from features.encoding.files import copy_encoder
from features.encoding.slices import Slices

Array = np.ndarray[Any, Any]
FIELD = ("name", "kind", "size", "table", "length", "pooled", "timed_by")
ROLES = ("feedback", "funnel", "user", "item", "time", "domain")
SCHEMA = ("base_rates", "domains", "sides", "rows", "trained_from", "trained_until")
"""Keys of `schema.json` that every checkout from a1d5809 on knows."""
FIELDS = "fields.json"


def padded(split: EncodedSplit, schema: RankerSchema) -> dict[str, Array]:
    """Return the inputs by field: int64 or float32, ``[rows]`` or ``[rows, length]``, histories padded with 0."""
    arrays: dict[str, Array] = split.padded()
    kinds = {field.name: np.int64 if field.embedded else np.float32 for field in schema.fields}
    return {name: arrays[name].astype(kind, copy=False) for name, kind in kinds.items()}


def present(split: EncodedSplit, schema: RankerSchema) -> tuple[float, float]:
    """Return how many ids a row has, padding left out and counted; nothing is padded for that."""
    there, cells = 0, 0
    for values in (split.features[field.name] for field in schema.fields if field.embedded):
        if isinstance(values, Slices):
            there += values.count(values.values != PADDING)
            cells += len(values) * values.length
        else:
            there += np.count_nonzero(values != PADDING)
            cells += values.size
    return there / split.rows, cells / split.rows


def write_plain(source: Path, target: Path) -> Path:
    """Write a training set, as far as training reads it, in the form of commit a1d5809 and return its folder."""
    schema = read_schema(source)
    told = json.loads(schema.model_dump_json())
    fields = [{key: field[key] for key in FIELD if key in field} for field in told["fields"]]
    for field in fields:
        if field["kind"] == "numeric" and field["length"]:
            field["kind"] = "vector"  # a number in parts is newer; a vector is read in the same way
    declaration = {role: told["declaration"][role] for role in ROLES}
    kept = {key: told[key] for key in SCHEMA} | {"declaration": declaration, "fields": fields}
    (target / "encoded").mkdir(parents=True)
    (target / "schema.json").write_text(json.dumps(kept), encoding="utf-8")
    copy_encoder(source, target)
    names: tuple[SplitName, ...] = ("train", "validation")
    for name in names:
        split = read_encoded(source, name, schema)
        columns = {field: _column(values) for field, values in padded(split, schema).items()}
        columns |= {label: pa.array(values) for label, values in split.labels.items()}
        codes = {DOMAIN: split.domain, USER: split.user}
        table = pa.table(columns | {code: pa.array(values.astype(np.int64)) for code, values in codes.items()})
        with (
            pa.OSFile(str(target / "encoded" / f"{name}.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as to,
        ):
            to.write_table(table.combine_chunks(), max_chunksize=max(1, table.num_rows))
    return target


def _column(values: Array) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def write_rows(source: Path, target: Path, rows: int) -> Path:
    """Write some training rows in random order, the first feedback as ``label``, for peers; return the folder."""
    schema = read_schema(source)
    split = read_encoded(source, "train", schema)
    at = np.random.default_rng(0).permutation(split.rows)[:rows]
    target.mkdir(parents=True)
    label = split.labels[schema.declaration.feedback[0]]
    np.savez(target / "rows.npz", label=label[at], **{name: v[at] for name, v in padded(split, schema).items()})
    fields = [json.loads(field.model_dump_json()) for field in schema.fields]
    (target / FIELDS).write_text(json.dumps({"fields": fields, "item": schema.declaration.item}), encoding="utf-8")
    return target
