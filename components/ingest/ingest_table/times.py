"""Which moment does a field name? In UTC, from a text, a timestamp, a date or a number since 1970."""

from __future__ import annotations

import polars as pl

from components.ingest.ingest_table.fields import Time, engine_format, has_offset, has_time
from features.rules.exact_values import Value, exact_below, not_exact, once, stripped
from features.rules.iso_times import DAY, YEAR_1, YEAR_10000, Moments, beyond, iso_moments, placed

_UTC = pl.Datetime("us", "UTC")
_LATEST = 1 << 33
"""Unix seconds in the year 2242."""
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Decimal digits of a second in a unit."""
_EARLIEST = {"s": 0, "ms": 10**12, "us": 10**15, "ns": 10**18}
"""September 2001: what lies before was written in another unit."""
_UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_MISREAD = (_LATEST // 1000 + DAY) * 1_000_000
"""Microseconds since 1970 below which seconds lie that are taken for ms, and ms for us: April 1970."""
_QUARTER = 15 * 60 * 1_000_000
_ISO = "a time such as 2026-01-31T23:59:00"


def moments(column: pl.Expr, dtype: pl.DataType, time: Time, *, early: bool) -> Value:
    """Return the expressions of a column of times as ``datetime[us, UTC]``; no value when its type is none.

    Finer digits than a microsecond are cut.

    Args:
        column: the file's column.
        dtype: its type there.
        time: what the config says of it.
        early: whether a time in the first days of 1970 may be one, rather than seconds written as microseconds.
    """
    if dtype == pl.Null:
        return Value(column.cast(_UTC), column.is_null(), _ISO)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        column, dtype = column.cast(pl.String), pl.String()
    if time.unit != "iso":
        return _since_1970(column, dtype, time.unit)
    wanted = _ISO
    if dtype == pl.String and time.format is not None:
        found, wanted = _formatted(stripped(column), time.format, time.zone), f"a time in the format {time.format}"
    elif dtype == pl.String:
        found = iso_moments(column, time.zone)
    elif isinstance(dtype, pl.Datetime):
        found = _stamped(column, dtype, time.zone)
    elif dtype == pl.Date:
        fine = column.to_physical().is_between(YEAR_1 // DAY + 1, YEAR_10000 // DAY - 1)
        found = placed(pl.when(fine).then(column).cast(pl.Datetime("us")), time.zone)
    else:
        return Value(None)
    value, why = found.value, [(found.skipped, f"a time that exists: clocks in {time.zone} skip this one")]
    micros = value.to_physical()
    wrong = beyond(value)
    if not early:
        # Midnight of any zone is a day and no unit that was taken for another.
        misread = micros.is_between(1_000_000, _MISREAD, closed="none") & (micros % _QUARTER != 0)
        misread = misread.fill_null(False)
        wrong |= misread
        why.append((misread, "a later time: these may be seconds or milliseconds that were written in another unit"))
    return Value(pl.when(~wrong).then(value), wrong, wanted, tuple(why))


def _stamped(column: pl.Expr, dtype: pl.Datetime, zone: str) -> Moments:
    """Return timestamps of any unit, with a zone or without."""
    per = 10 ** _DIGITS[dtype.time_unit]
    if dtype.time_unit != "ns":
        # Beyond these years the engine stops; nanoseconds do not reach them.
        fine = column.to_physical().is_between((YEAR_1 + DAY) * per, YEAR_10000 * per - 1)
        column = pl.when(fine).then(column)
    if dtype.time_zone is not None:
        return Moments(column.dt.convert_time_zone("UTC").dt.cast_time_unit("us"), pl.lit(False))
    return placed(column.dt.cast_time_unit("us"), zone)


def _since_1970(column: pl.Expr, dtype: pl.DataType, unit: str) -> Value:
    """Return numbers in a unit since 1970 UTC, whole or with a fraction."""
    least, most = _EARLIEST[unit], _LATEST * 10 ** _DIGITS[unit]
    wanted = f"a time in {_UNIT_WORDS[unit]} since 1970 UTC"
    why: tuple[tuple[pl.Expr, str], ...] = ()
    if dtype.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        inside = whole.is_between(least, most, closed="left").fill_null(False)
        micros = _micros(pl.when(inside).then(whole), unit)
    elif dtype.is_float():
        near = column.abs() < exact_below(dtype)
        inside = (column.is_between(least, most, closed="left") & near).fill_null(False)
        micros = _rounded(pl.when(inside).then(column.cast(pl.Float64)), unit)
        why = (((column.is_finite() & ~near).fill_null(False), not_exact(dtype)),)
    elif isinstance(dtype, pl.Decimal) or dtype == pl.String:
        micros = once(column.cast(pl.String), lambda text: _of_texts(stripped(text), unit), pl.Int64())
        inside = once(column.cast(pl.String), lambda text: _of_texts(stripped(text), unit).is_not_null(), pl.Boolean())
    else:
        return Value(None)
    return Value(micros.cast(_UTC, strict=False), ~inside, wanted, why)


def _of_texts(text: pl.Expr, unit: str) -> pl.Expr:
    """Return numbers in a unit since 1970 as microseconds, null where a text is none or lies outside the times."""
    # Patterns are slow, and most texts are digits alone.
    plain = pl.when(~text.str.starts_with("+")).then(text).cast(pl.Int64, strict=False)
    return pl.coalesce(
        once(plain, lambda whole: _micros(pl.when(_inside(whole, unit)).then(whole), unit), pl.Int64()),
        once(pl.when(plain.is_null()).then(text), lambda other: _of_patterns(other, unit), pl.Int64()),
    )


def _inside(number: pl.Expr, unit: str) -> pl.Expr:
    return number.is_between(_EARLIEST[unit], _LATEST * 10 ** _DIGITS[unit], closed="left")


def _of_patterns(text: pl.Expr, unit: str) -> pl.Expr:
    """Return whole numbers, to the last of their digits behind the point, and others."""
    whole = text.str.extract(r"^([0-9]+)(?:\.[0-9]*)?$", 1).cast(pl.Int64, strict=False)
    number = pl.when(whole.is_null()).then(text).cast(pl.Float64, strict=False)
    near = _inside(number, unit) & (number < exact_below(pl.Float64()))
    counted = _micros(pl.when(_inside(whole, unit)).then(whole), unit) + _fraction(text, unit)
    return pl.coalesce(counted, _rounded(pl.when(near).then(number), unit))


def _micros(whole: pl.Expr, unit: str) -> pl.Expr:
    return whole // 1000 if unit == "ns" else whole * 10 ** (6 - _DIGITS[unit])


def _rounded(number: pl.Expr, unit: str) -> pl.Expr:
    """Return floats as microseconds: the nearest one, which is what was written before it became a float."""
    # The product of a number with a fraction is rounded itself, to half a microsecond in the year 2107.
    whole, scale = number.floor(), 10.0 ** (6 - _DIGITS[unit])
    return (whole * scale).cast(pl.Int64, strict=False) + ((number - whole) * scale).round().cast(
        pl.Int64, strict=False
    )


def _fraction(text: pl.Expr, unit: str) -> pl.Expr:
    """Return the microseconds behind the point of digits."""
    digits = 6 - _DIGITS[unit]
    if digits <= 0:
        return pl.lit(0)
    behind = text.str.extract(r"\.([0-9]*)$", 1).fill_null("")
    return behind.str.pad_end(digits, "0").str.slice(0, digits).cast(pl.Int64, strict=False)


def _formatted(text: pl.Expr, form: str, zone: str) -> Moments:
    """Return times in a form of their own; a year of fewer than four digits is none."""
    engine = engine_format(form)
    if has_offset(form):
        return Moments(text.str.to_datetime(engine, time_unit="us", strict=False, time_zone="UTC"), pl.lit(False))
    if has_time(form):
        naive = text.str.to_datetime(engine, time_unit="us", strict=False)
    else:
        naive = text.str.to_date(engine, strict=False).cast(pl.Datetime("us"))
    return placed(pl.when(naive.dt.year() >= 1000).then(naive), zone)
