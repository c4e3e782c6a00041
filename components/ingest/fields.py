"""Does every field of a raw file hold what its column promises? Text in, typed columns out.

Every fault is one sentence with file, line and column: a log that is half right is not read at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.platform.errors import BadInputError

_LATEST = 1 << 33
"""Unix seconds in the year 2242: what lies beyond is not in seconds."""
_EARLIEST_MS = 1_000_000_000_000
"""Unix milliseconds in September 2001: what lies before is not in milliseconds."""


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

    def milliseconds(self, column: str) -> pl.Series:
        """Return a column of unix milliseconds as ``datetime[us, UTC]``.

        Raises:
            BadInputError: a field is not a number of milliseconds between 2001 and 2242.
        """
        values = self.integers(column, pl.Int64)
        # Seconds read as milliseconds would all lie in January 1970.
        wrong = (values < _EARLIEST_MS) | (values >= _LATEST * 1000)
        self._refuse(column, wrong, "a time in unix milliseconds")
        return (values * 1000).cast(pl.Datetime("us", "UTC"))

    def moments(self, column: str) -> pl.Series:
        """Return a column of ISO times with a zone, ``2019-11-24 00:00:17.004101+00:00``, as ``datetime[us, UTC]``.

        Raises:
            BadInputError: a field is something else.
        """
        times = self.text[column].str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False)
        self._refuse(column, times.is_null(), "a time such as 2019-11-24 00:00:17.004101+00:00")
        return times.dt.convert_time_zone("UTC")

    def numbers(self, column: str) -> pl.Series:
        """Return a column of finite numbers as float64.

        Raises:
            BadInputError: a field is something else.
        """
        values = self.text[column].cast(pl.Float64, strict=False)
        self._refuse(column, ~values.is_finite().fill_null(False), "a number")
        return values

    def flags(self, column: str) -> pl.Series:
        """Return a column of 0 and 1 as int8.

        Raises:
            BadInputError: a field is something else.
        """
        values = self.integers(column, pl.Int8)
        self._refuse(column, ~values.is_in([0, 1]), "0 or 1")
        return values

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
