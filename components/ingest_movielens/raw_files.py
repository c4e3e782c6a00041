"""Is a raw file what its header promises? Tab-separated `name:type` files in, checked columns out.

Every fault is one sentence with file, line and column: a log that is half right is not read at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.errors import BadInputError, MissingError

RATINGS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
USERS = ("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token")
ITEMS = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")

_LATEST = 1 << 33
"""Unix seconds in the year 2242: what lies beyond is not in seconds."""


@dataclass(frozen=True)
class RawTable:
    """A file as strings, one column per header field without its type; line `row + 2` holds `row`."""

    path: Path
    text: pl.DataFrame

    def integers(self, column: str, dtype: type[pl.DataType], *, optional: bool = False) -> pl.Series:
        """Return a column as whole numbers of `dtype`.

        Args:
            column: name without its type.
            dtype: polars integer type.
            optional: an empty field is null instead of an error.

        Raises:
            BadInputError: a field is not a whole number that fits `dtype`.
        """
        given = self.text[column]
        number = given.cast(pl.Float64, strict=False)
        whole = number.is_finite() & (number == number.floor())
        values = number.set(~whole.fill_null(False), None).cast(dtype, strict=False)
        # 2^53 and beyond are not exact as floats: take the digits where there are only digits.
        exact = given.cast(dtype, strict=False)
        values = exact.zip_with(exact.is_not_null(), values)
        wrong = values.is_null() & (given.ne("") if optional else True)
        self._refuse(column, wrong, f"a whole number ({str(dtype()).lower()})")
        return values

    def seconds(self, column: str) -> pl.Series:
        """Return a column of unix seconds as ``datetime[us, UTC]``.

        Raises:
            BadInputError: a field is not a number of seconds between 1970 and 2242.
        """
        values = self.integers(column, pl.Int64)
        self._refuse(column, (values < 0) | (values >= _LATEST), "a time in unix seconds")
        return (values * 1_000_000).cast(pl.Datetime("us", "UTC"))

    def strings(self, column: str) -> pl.Series:
        """Return a column of words; an empty field is null."""
        given = self.text[column]
        return given.set(given == "", None)

    def unique(self, column: str) -> None:
        """Check that no value of `column` occurs twice.

        Raises:
            BadInputError: one does.
        """
        self._refuse(column, ~self.text[column].is_first_distinct(), f"one line per {column}")

    def _refuse(self, column: str, wrong: pl.Series, wanted: str) -> None:
        rows = wrong.arg_true()
        if len(rows):
            more = f" (and {len(rows) - 1:,} more lines)" if len(rows) > 1 else ""
            raise BadInputError(
                f"{self.path}:{rows[0] + 2}: column {column!r} is {self.text[column][rows[0]]!r}{more}, "
                f"expected {wanted}; correct the file and run again"
            )


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
