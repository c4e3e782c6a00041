"""Are the inputs of every kind the bits that plain whole-column operations and a hash table per call give?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import FIRST, MISSING_ELEMENT, PADDING, UNKNOWN, FieldEncoding
from features.encoding.encoder import Encoder
from features.encoding.fitted import FittedField
from features.encoding.numbers import LARGEST
from features.encoding.vocabularies import hashed

Array = np.ndarray[Any, Any]
INTS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20)
TEXTS = st.none() | st.sampled_from(["", "1", "10", "é", "b", "a\0", "a"])
REALS = st.none() | st.floats(width=32) | st.sampled_from([0.0, -0.0, 1e300, -1e300])
TIMES = st.none() | st.integers(-(10**6), 2 * 10**15)
COLUMNS: dict[str, tuple[str, Any, FieldEncoding]] = {
    "id": ("int64", INTS, FieldEncoding()),
    "city": ("string", TEXTS, FieldEncoding()),
    "ids_hashed": ("int64", INTS, FieldEncoding(kind="hash", buckets=7)),
    "texts_hashed": ("string", TEXTS, FieldEncoding(kind="hash", buckets=7)),
    "price": ("float64", REALS, FieldEncoding()),
    "scaled": ("float64", REALS, FieldEncoding(kind="normalise")),
    "cut": ("float64", REALS, FieldEncoding(kind="bin", buckets=4)),
    "seen": ("array<int64>", INTS, FieldEncoding(shares="id", length=3, timed_by="at")),
    "at": ("array<int64>", TIMES, FieldEncoding(kind="elapsed", length=3)),
    "tags": ("array<string>", TEXTS, FieldEncoding(kind="bag", length=2)),
    "turned": ("array<string>", TEXTS, FieldEncoding(length=2, order="oldest_first")),
}
ARROW = {"int64": pa.int64(), "string": pa.string(), "float64": pa.float64()}
REQUEST = datetime(2020, 1, 1, tzinfo=UTC)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 12))
    columns = {}
    for name, (dtype, values, _) in COLUMNS.items():
        array = dtype.startswith("array<")
        one = st.none() | st.lists(values, max_size=6) if array else values
        kind = ARROW[dtype[6:-1] if array else dtype]
        drawn = draw(st.lists(one, min_size=rows, max_size=rows))
        columns[name] = pa.array(drawn, pa.list_(kind) if array else kind)
    columns["at"] = pa.array(
        [None if ids is None else draw(st.lists(TIMES, min_size=len(ids), max_size=len(ids)))
         for ids in columns["seen"].to_pylist()],
        pa.list_(pa.int64()),
    )  # fmt: skip
    columns["event_timestamp"] = pa.array([REQUEST] * rows, pa.timestamp("us", "UTC"))
    return pa.table(columns)


KNOWN: dict[str, list[Any]] = {
    "id": [1, 2, 3, -(2**62), 2**62, None], "city": ["a", "b", "é", "10", "", None], "ids_hashed": [1] * 6,
    "texts_hashed": ["a"] * 6, "price": [1.0, 2.5, 1e4, None, -3.0, 0.0], "scaled": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "cut": [1.0, 2.0, 3.0, 4.0, None, 6.0], "seen": [[1, 5], [], None, [7], [8], [9, 3]],
    "at": [[1, 2], [], None, [3], [4], [5, 6]], "tags": [["a"], ["b", "a"], [], None, ["é"], ["c"]],
    "turned": [["a"], ["b", "a"], [], None, ["é"], ["c"]],
}  # fmt: skip


def encoder() -> Encoder:
    train = {
        name: pa.array(KNOWN[name], pa.list_(ARROW[dtype[6:-1]]) if dtype.startswith("array<") else ARROW[dtype])
        for name, (dtype, _, _) in COLUMNS.items()
    }
    dtypes = {name: dtype for name, (dtype, _, _) in COLUMNS.items()}
    return Encoder.fit(pa.table(train), dtypes, {name: option for name, (_, _, option) in COLUMNS.items()})


ENCODER = encoder()


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(0, 3))
def test_every_kind_is_encoded_to_the_same_bits(table: pa.Table, skipped: int) -> None:
    rows = table.slice(min(skipped, table.num_rows))
    made, expected = ENCODER.encode(rows), plainly(ENCODER, rows)
    assert made.keys() == expected.keys()
    for name, values in made.items():
        assert values.dtype == expected[name].dtype and values.shape == expected[name].shape, name
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def plainly(encoder: Encoder, table: pa.Table) -> dict[str, Array]:
    made = {field.name: _encoded(encoder, field, table) for field in encoder.fitted}
    made["seen"] = np.where(made["at"] < 0, PADDING, made["seen"])
    return made


def _encoded(encoder: Encoder, field: FittedField, table: pa.Table) -> Array:
    column = table.column(field.name).combine_chunks()
    if field.name == "turned":
        column = pa.array([row and row[::-1] for row in column.to_pylist()], column.type)
    if field.kind == "elapsed":
        requests = table.column("event_timestamp").cast(pa.int64()).to_numpy()
        flat, lengths = _elements(column, field.dtype), _lengths(column)
        missing = pc.is_null(flat).to_numpy(zero_copy_only=False)
        since = np.repeat(requests, lengths) - flat.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return _pad(column, np.where(missing | (since < 0), -1.0, since / 1e6).astype(np.float32), field.length, -1.0)
    if field.kind in ("sequence", "bag"):
        return _pad(column, _indices(encoder, field, _elements(column, field.dtype)), field.length, PADDING)
    if field.kind in ("vocabulary", "hash"):
        return _indices(encoder, field, column)
    values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    known = np.isfinite(values)
    if field.kind == "bin":
        bins = np.searchsorted(np.asarray(field.edges), np.where(known, values, 0.0), side="right")
        return np.where(known, bins + FIRST, PADDING).astype(np.int64)
    deviations = (values - field.mean) / field.scale
    scaled = np.clip(np.where(np.isfinite(deviations), deviations, 0.0), -LARGEST, LARGEST)
    if field.kind == "normalise":
        return scaled.astype(np.float32)
    scores = np.zeros(len(values))
    scores[known] = np.interp(values[known], field.edges, field.scores)
    return np.column_stack((scores, scaled, ~known & field.misses)).astype(np.float32)


def _indices(encoder: Encoder, field: FittedField, values: pa.Array) -> Array:
    missing = pc.is_null(values).to_numpy(zero_copy_only=False)
    if field.buckets:
        known = FIRST + (hashed(values) % np.uint64(field.buckets)).astype(np.int64)
    else:
        vocabulary = pa.array([*encoder.vocabularies[str(field.table)]], type=values.type)
        found = pc.fill_null(pc.index_in(values, value_set=vocabulary), UNKNOWN - FIRST)
        known = found.to_numpy(zero_copy_only=False).astype(np.int64) + FIRST
    return np.where(missing, PADDING, known).astype(np.int64)


def _elements(column: pa.Array, dtype: str) -> pa.Array:
    flat = column.flatten()
    missing = pa.scalar(MISSING_ELEMENT[dtype[6:-1]], flat.type)
    return pc.if_else(pc.equal(flat, missing), pa.scalar(None, flat.type), flat)


def _lengths(column: pa.Array) -> Array:
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _pad(column: pa.Array, values: Array, length: int, padding: float) -> Array:
    padded = np.full((len(column), length), padding, dtype=values.dtype)
    bounds = np.concatenate(([0], np.cumsum(_lengths(column))))
    for row in range(len(column)):
        kept = values[bounds[row] : bounds[row + 1]][:length]
        padded[row, : len(kept)] = kept
    return padded
