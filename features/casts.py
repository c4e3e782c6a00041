"""Which type may a column have that is to be encoded? Those that ingestion reads as the same values, and no others."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.ground.errors import BadInputError

INTEGERS = ("bool", "int8", "int16", "int32", "int64")
FLOATS = ("float32", "float64")
_EXACT = {16: 1 << 11, 32: 1 << 24, 64: 1 << 53}
"""Up to which size a float of so many bits holds every whole number."""
_READ = {"string": pa.string(), **dict.fromkeys(INTEGERS, pa.int64()), **dict.fromkeys(FLOATS, pa.float64())}
_READ |= {f"array<{dtype}>": pa.list_(element) for dtype, element in _READ.items()}
"""The type of a column that is read as it is, by dtype."""


def as_dtype(column: pa.ChunkedArray, name: str, dtype: str, time: bool = False) -> pa.Array:
    """Return a column as the encoder reads it: texts, int64, float64, timestamps, or lists of them, in one array.

    Raises:
        BadInputError: the type cannot be read as that dtype, or a value would become another one.
    """
    found = column.type
    if column.num_chunks == 1 and not time and found == _READ.get(dtype):
        return column.chunk(0)  # as nearly always, in a hundredth of the time
    if pa.types.is_dictionary(found):
        column = column.cast(found.value_type)
        found = column.type
    if why := _refused(found, dtype, time):
        raise BadInputError(f"feature {name!r} is {found}, not {_wanted(dtype, time)}: {why}")
    if dtype in INTEGERS and pa.types.is_floating(found):
        _check_exact(column, name, dtype)
    if _is_text(found) and dtype in (*INTEGERS, *FLOATS):
        column = _number_texts(column, dtype)
    try:
        column = column.cast(_arrow_type(dtype, column.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInputError(f"feature {name!r} is {found}, not {dtype}: {error}; correct the column") from None
    combined = column.combine_chunks()
    return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined


def _refused(found: pa.DataType, dtype: str, time: bool) -> str | None:
    """Return what to do where a type is not taken for a dtype at all."""
    if dtype.startswith("array<"):
        inner = getattr(found, "value_type", None)
        return None if inner is None or dtype[6:-1] in FLOATS else _refused(inner, dtype[6:-1], False)
    if pa.types.is_null(found):
        return None
    if time and not pa.types.is_timestamp(found):
        return "training read times; give it a timestamp, for a number has no unit"
    if dtype == "string" and (pa.types.is_floating(found) or pa.types.is_timestamp(found)):
        return (
            "a number with a point is no text (pandas makes one of whole ids beside a missing one); read the column as "
            "text or as whole numbers that may be missing"
        )
    if dtype in INTEGERS and pa.types.is_timestamp(found):
        return "give it whole numbers"
    return None


def _wanted(dtype: str, time: bool) -> str:
    return "a time" if time else dtype


def _is_text(found: pa.DataType) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _check_exact(column: pa.ChunkedArray, name: str, dtype: str) -> None:
    """Refuse floats that are not whole, or so large that they may be another whole number rounded."""
    most = _EXACT[column.type.bit_width]
    numbers = column.cast(pa.float64())
    fine = pc.and_(pc.less(pc.abs(numbers), float(most)), pc.equal(numbers, pc.floor(numbers)))
    wrong = pc.fill_null(pc.invert(fine), False)
    if count := pc.sum(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise BadInputError(
            f"feature {name!r} is {column.type}, not {dtype}: row {row + 1} holds {numbers[row].as_py()!r} (and "
            f"{count - 1:,} more rows), which is no whole number below {most:,}; write whole numbers or texts"
        )


def _number_texts(column: pa.ChunkedArray, dtype: str) -> pa.ChunkedArray:
    """Return texts of numbers without blanks around them; an empty one is missing, and 4.0 is 4 where it is whole."""
    text: Any = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), None, text)
    if dtype == "bool":
        for words, digit in ((r"(?i)^(true|t)$", "1"), (r"(?i)^(false|f)$", "0")):
            text = pc.replace_substring_regex(text, words, digit)
    return pc.replace_substring_regex(text, r"^([+-]?[0-9]+)\.0*$", r"\1") if dtype in INTEGERS else text


def _arrow_type(dtype: str, found: pa.DataType) -> pa.DataType:
    # The encoder makes seconds of times; casting them here would lose their unit.
    return found if dtype in FLOATS and pa.types.is_timestamp(found) else _READ[dtype]
