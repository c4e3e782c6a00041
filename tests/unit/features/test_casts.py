"""Does a column of another type give the same values, or one sentence?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from features.casts import as_dtype
from features.encoding.encoder import Encoder
from features.ground.errors import BadInputError


def read(values: Any, dtype: str, kind: pa.DataType | None = None, time: bool = False) -> list[Any]:
    found: list[Any] = as_dtype(pa.chunked_array([pa.array(values, kind)]), "field", dtype, time).to_pylist()
    return found


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "wanted"),
    [
        ([7, None], pa.int64(), "string", ["7", None]),
        ([7.0, None], pa.float64(), "int64", [7, None]),
        ([" 7", "7.0", "", None], pa.string(), "int64", [7, 7, None, None]),
        ([" 7.5 ", ""], pa.string(), "float64", [7.5, None]),
        (["True", "f", "1"], pa.string(), "bool", [1, 0, 1]),
        ([None, None], pa.null(), "string", [None, None]),
        ([[7], None], pa.list_(pa.int32()), "array<string>", [["7"], None]),
        (["x", "y"], pa.dictionary(pa.int32(), pa.string()), "string", ["x", "y"]),
    ],
)
def test_what_ingestion_reads_as_the_same_value_is_read(
    values: Any, kind: pa.DataType, dtype: str, wanted: list[Any]
) -> None:
    assert read(values, dtype, kind) == wanted


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "said"),
    [
        ([1712345678901.0, None], pa.float64(), "string", "a number with a point is no text"),
        ([[1.0]], pa.list_(pa.float64()), "array<string>", "a number with a point is no text"),
        ([1.0, 2.5], pa.float64(), "int64", r"row 2 holds 2\.5"),
        ([2.0**53], pa.float64(), "int64", "no whole number below 9,007,199,254,740,992"),
        ([2.0**24], pa.float32(), "int64", "no whole number below 16,777,216"),
        ([float("nan")], pa.float64(), "int64", "row 1 holds nan"),
        (["seven"], pa.string(), "int64", "seven"),
    ],
)
def test_what_ingestion_refuses_is_refused(values: Any, kind: pa.DataType, dtype: str, said: str) -> None:
    with pytest.raises(BadInputError, match=f"^feature 'field' is .*{said}"):
        read(values, dtype, kind)


def test_a_field_that_was_a_time_takes_no_number() -> None:
    moments = pa.table({"seen_at": pa.array([1_700_000_000, 1_700_000_060], pa.timestamp("s", "UTC"))})
    encoder = Encoder.fit(moments, {"seen_at": "float64"})
    assert encoder.encode(moments)["seen_at"][:, 1].tolist() == [-1, 1]
    millis = pa.table({"seen_at": pa.array([1_700_000_000_000], pa.int64())})
    with pytest.raises(BadInputError, match=r"feature 'seen_at' is int64, not a time: .*a number has no unit"):
        encoder.encode(millis)
