"""How do the keys and values of a column become the bytes that Feast stores? In one pass, not cell by cell.

Feast turns every cell into a message object. What comes out here is the same, byte for byte, but for whole numbers
above 2**53 in a column with gaps, which Feast rounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import PYTHON_LIST_VALUE_TYPE_TO_PROTO_VALUE, python_values_to_proto_values

PLAIN: dict[ValueType, str] = {
    ValueType.INT32: "int32_val",
    ValueType.INT64: "int64_val",
    ValueType.FLOAT: "float_val",
    ValueType.DOUBLE: "double_val",
    ValueType.STRING: "string_val",
    ValueType.BOOL: "bool_val",
}
LISTS = {
    ValueType.INT64_LIST: pa.int64(),
    ValueType.FLOAT_LIST: pa.float32(),
    ValueType.DOUBLE_LIST: pa.float64(),
    ValueType.STRING_LIST: pa.string(),
}
"""Lists, and the type of what is in them."""
FRACTIONS = {ValueType.FLOAT: pa.float32(), ValueType.DOUBLE: pa.float64()}
"""Numbers that a message holds in as many bytes as a column does."""


def can_spell_keys(view: FeatureView) -> bool:
    """Return whether the key types of a view are known here."""
    return {column.dtype.to_value_type() for column in view.entity_columns} <= set(PLAIN)


def entity_keys(view: FeatureView, table: pa.Table, version: int) -> pa.Array:
    """Return the keys as Feast spells them.

    Args:
        view: feature view.
        table: rows with its key columns.
        version: Feast's version of the spelling.
    """
    names = [column.name for column in view.entity_columns]
    kinds = [PLAIN[column.dtype.to_value_type()] for column in view.entity_columns]
    columns = [table.column(name) for name in names]

    def spelt(values: tuple[Any, ...]) -> bytes:
        parts = [Value(**{kind: value}) for kind, value in zip(kinds, values, strict=True)]
        return bytes(serialize_entity_key(EntityKey(join_keys=names, entity_values=parts), version))

    if {*kinds} == {"int64_val"} and not any(column.null_count for column in columns):
        # Feast spells whole numbers in the order of their names, each as eight bytes that are always the same and the
        # number's own eight.
        numbers = [column.to_numpy().astype("<i8") for column in columns]
        written = np.tile(np.frombuffer(spelt((0,) * len(names)), dtype=np.uint8), (table.num_rows, 1))
        for place, at in enumerate(sorted(range(len(names)), key=names.__getitem__, reverse=True)):
            end = written.shape[1] - 16 * place
            written[:, end - 8 : end] = numbers[at].view(np.uint8).reshape(-1, 8)
        if spelt(tuple(int(column[-1]) for column in numbers)) == written[-1].tobytes():
            return _binary(written)
    return pa.array(
        [spelt(values) for values in zip(*(column.to_pylist() for column in columns), strict=True)], pa.binary()
    )


def plain_values(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column; NaN is nothing, as for Feast."""
    return [None if value != value else value for value in column.to_pylist()]


def messages(column: pa.ChunkedArray, kind: ValueType, plain: list[Any] | None = None) -> list[bytes]:
    """Return the messages that Feast stores for a column; nothing at all is an empty message.

    Args:
        column: one chunk or several.
        kind: one of `PLAIN` or `LISTS`.
        plain: the `plain_values` of the column, where they are at hand.
    """
    if kind in LISTS:
        return _lists(column, kind)
    field = PLAIN[kind]
    if column.type == FRACTIONS.get(kind):
        numbers = column.fill_null(float("nan")).to_numpy()
        one: dict[str, Any] = {field: 1.0}
        found = _after(Value(**one).SerializeToString()[: -numbers.dtype.itemsize], numbers)
        encoded: list[bytes] = pc.if_else(pa.array(np.isnan(numbers)), b"", found).to_pylist()
        return encoded
    values = plain_values(column) if plain is None else plain
    return [b"" if value is None else Value(**{field: value}).SerializeToString() for value in values]


def _lists(column: pa.ChunkedArray, kind: ValueType) -> list[bytes]:
    rows = column.to_pylist()
    message, field, _ = PYTHON_LIST_VALUE_TYPE_TO_PROTO_VALUE[kind]
    if getattr(column.type, "value_type", None) != LISTS[kind] or pc.list_flatten(column).null_count:
        # Feast has words for types that do not fit, and values for those that are missing.
        return [value.SerializeToString() for value in python_values_to_proto_values(rows, kind)]
    return [b"" if row is None else Value(**{field: message(val=row)}).SerializeToString() for row in rows]


def _after(head: bytes, numbers: np.ndarray[tuple[int], np.dtype[Any]]) -> pa.Array:
    """Return for each number the bytes that are always the same, and the number's own."""
    size = numbers.dtype.itemsize
    written = np.empty((len(numbers), len(head) + size), dtype=np.uint8)
    written[:, :-size] = np.frombuffer(head, dtype=np.uint8)
    written[:, -size:] = numbers.view(np.uint8).reshape(-1, size)
    return _binary(written)


def _binary(written: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> pa.Array:
    kind = pa.binary(written.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(written), [None, pa.py_buffer(written)]).cast(pa.binary())
