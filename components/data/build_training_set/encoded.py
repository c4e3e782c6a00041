"""How does a split become what training reads? One field after the other, some of the rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.build_training_set.unknown import Unknown
from components.data.encoded_file import Blank, lay_out
from components.data.training_set import DOMAIN, REQUEST, USER, EncodedSplit
from features.declaration import RankerSchema, weight_name
from features.encoding.encoder import Encoder
from features.encoding.fitted import ORDERED_OR_BAG, FittedField
from features.ground.pace import Pace, Report
from features.joins.spill import BLOCK, one_piece
from features.joins.stored_rows import StoredRows

Array = np.ndarray[Any, Any]


def write_split(
    path: Path,
    rows: StoredRows,
    encoder: Encoder,
    schema: RankerSchema,
    users: pa.Array,
    report: Report | None = None,
) -> dict[str, float]:
    """Write the encoded rows of a split and return its `unknown_shares`.

    Args:
        path: file to write.
        rows: of the split, in the places that they are encoded for.
        encoder: fitted on the training split.
        schema: of the training set.
        users: all users of the training set, each once; a user's code is its place.
        report: told how far it is.
    """
    plain = [field for field in encoder.fitted if field.kind not in ORDERED_OR_BAG]
    first = next(rows.blocks([field.name for field in plain], 1))
    blanks = {field.name: _blank(encoder.encode_plain(field, first)) for field in plain}
    lists = encoder.encode_lists(rows)
    declaration, code, number = schema.declaration, Blank(np.dtype(np.int64)), Blank(np.dtype(np.float32))
    laid = EncodedSplit(
        features=lists | blanks,  # type: ignore[arg-type]  # blanks are filled in below
        labels=dict.fromkeys(declaration.feedback, number),  # type: ignore[arg-type]
        domain=code,  # type: ignore[arg-type]
        user=code,  # type: ignore[arg-type]
        weights=dict.fromkeys(schema.weighted, number),  # type: ignore[arg-type]
        request=code if declaration.request else None,  # type: ignore[arg-type]
    )
    file = lay_out(path, laid, rows.num_rows)
    unknown = {name: Unknown.of(values) for name, values in lists.items()}
    del laid, lists
    pace = Pace(f"encoding {path.stem}", rows.num_rows * len(plain), report, unit="values")
    for field in plain:
        unknown[field.name] = Unknown()
        for start, values in _encoded(encoder, field, rows):
            file.fill(field.name, start, values)
            pace.done(len(values))
            if encoder.with_vocabulary(field):
                unknown[field.name] += Unknown.of(values)
    for name, start, values in _roles(rows, schema, users):
        file.fill(name, start, values)
    file.close()
    return {field.name: unknown[field.name].share for field in encoder.fitted if encoder.with_vocabulary(field)}


def _blank(values: Array) -> Blank:
    return Blank(values.dtype, values.shape[1] if values.ndim == 2 else 0)


def _encoded(encoder: Encoder, field: FittedField, rows: StoredRows) -> Iterator[tuple[int, Array]]:
    start = 0
    for block in rows.blocks([field.name], encoder.at_once(field)):
        yield start, encoder.encode_plain(field, block)
        start += block.num_rows


def _roles(rows: StoredRows, schema: RankerSchema, users: pa.Array) -> Iterator[tuple[str, int, Array]]:
    """Yield labels, weights and codes of spans of rows."""
    declaration, known = schema.declaration, pa.array(schema.domains, pa.string())
    numbers = [*declaration.feedback, *map(weight_name, schema.weighted)]
    for at, block in enumerate(rows.blocks([*numbers, *([declaration.domain] if declaration.domain else [])])):
        for name in numbers:
            yield name, at * BLOCK, block.column(name).to_numpy().astype(np.float32)
        if declaration.domain is None:
            yield DOMAIN, at * BLOCK, np.zeros(block.num_rows, dtype=np.int64)
        else:
            values = block.column(declaration.domain).cast(pa.string())
            yield DOMAIN, at * BLOCK, pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy()
    yield USER, 0, pc.index_in(rows.column(declaration.user), value_set=users).to_numpy()
    if declaration.request:
        requests = rows.column(declaration.request)
        yield REQUEST, 0, pc.index_in(requests, value_set=pc.unique(one_piece(requests))).to_numpy()
