"""Is a raw file what its header promises? Tab-separated `name:type` files in, checked columns out.

Every fault is one sentence with file, line and column: a log that is half right is not read at all.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from components.ingest.fields import RawTable
from components.platform.errors import BadInputError, MissingError

RATINGS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
"""Header of the ratings of every release."""


def read(path: Path, header: tuple[str, ...]) -> RawTable:
    """Read a tab-separated file whose first line must be `header`.

    Raises:
        MissingError: there is no file.
        BadInputError: it is not UTF-8, has another header, no rows, a line with another number of fields, or
            a last line without its line break, which is how a truncated file ends.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise MissingError(f"{path} is missing: put the file there, or set download: true") from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 and run again") from None
    first, _, body = text.replace("\r\n", "\n").partition("\n")
    _check_header(path, tuple(first.split("\t")), header)
    if not body:
        raise BadInputError(f"{path} holds no rows, only a header; fetch the file again")
    lines = pl.Series("line", body.split("\n"))
    complete = lines[-1] == ""
    lines = lines.head(len(lines) - 1) if complete else lines
    fields = lines.str.split("\t")
    wrong = (fields.list.len() != len(header)).arg_true()
    if len(wrong) or not complete:
        row = wrong[0] if len(wrong) else len(lines) - 1
        raise BadInputError(_broken_line(path, row, fields[row].to_list(), len(header), len(lines)))
    names = [column.partition(":")[0] for column in header]
    return RawTable(path, fields.list.to_struct(fields=names).struct.unnest())


def _check_header(path: Path, found: tuple[str, ...], header: tuple[str, ...]) -> None:
    for position, wanted in enumerate(header):
        got = found[position] if position < len(found) else None
        if got != wanted:
            state = "is missing" if got is None else f"is {got!r}"
            raise BadInputError(
                f"{path}:1: column {position + 1} {state}, expected {wanted!r}; "
                f"the header must be {' '.join(header)}, separated by tabs"
            )
    if len(found) > len(header):
        raise BadInputError(
            f"{path}:1: column {len(header) + 1} is {found[len(header)]!r}, expected no more columns; remove it"
        )


def _broken_line(path: Path, row: int, fields: list[str], wanted: int, rows: int) -> str:
    where = f"{path}:{row + 2}"
    if row == rows - 1:
        return (
            f"{where}: the last line {' '.join(fields)!r} is cut off ({len(fields)} of {wanted} fields, no line break "
            "or no end); the file is truncated, fetch it again"
        )
    return f"{where}: {len(fields)} fields, expected {wanted} separated by tabs; correct the line and run again"
