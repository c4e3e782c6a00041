"""Which moment does a text name? ISO 8601 as files and databases write it, in UTC or in the zone of a place."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

YEAR_1, YEAR_10000, DAY = -62_135_596_800, 253_402_300_800, 86_400
"""Unix seconds that years begin with, and the seconds of a day."""
_OFFSET = r"[+-]\d{2}:\d{2}$"
_REPAIRS = (
    (r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00:00"),
    (r"^(\d{4}-\d{2}-\d{2}) ", "${1}T"),
    (r"(Z|z| UTC)$", "+00:00"),
    # PostgreSQL and DuckDB write whole hours as +02.
    (r"(T\d{2}:\d{2}[0-9:.,]*) ?([+-]\d{2})$", "${1}${2}:00"),
    (r"(T\d{2}:\d{2}[0-9:.,]*) ?([+-]\d{2}):?(\d{2})$", "${1}${2}:${3}"),
    (r"(T\d{2}:\d{2})([+-]|$)", "${1}:00${2}"),
    (r"(T\d{2}:\d{2}:\d{2}),(\d)", "${1}.${2}"),
)
"""Forms of ISO 8601 and of databases, and the one that is parsed."""


@dataclass(frozen=True)
class Moments:
    """Moments in UTC, and the rows whose local time never came."""

    value: pl.Expr
    """As ``datetime[us, UTC]``, null where there is none."""
    skipped: pl.Expr
    """Whether clocks skipped the local time."""


def iso_moments(column: pl.Expr, zone: str) -> Moments:
    """Return ISO times in UTC: a date, or `T` or a space and minutes or more, with an offset or without; else null."""
    text = column.str.strip_chars()
    for form, repaired in _REPAIRS:
        text = text.str.replace(form, repaired)
    # A zone of text without one is looked up, so both ways are tried on the texts that they are for.
    with_offset = text.str.contains(_OFFSET)
    aware = pl.when(with_offset).then(text).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    naive = pl.when(~with_offset).then(text).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    local = placed(naive, zone)
    return Moments(pl.coalesce(aware.dt.convert_time_zone("UTC"), local.value), local.skipped)


def beyond(value: pl.Expr) -> pl.Expr:
    """Return whether a moment is none, or lies outside the years 1 to 9999; never null."""
    return ~value.to_physical().is_between(YEAR_1 * 10**6, YEAR_10000 * 10**6, closed="left").fill_null(False)


def placed(naive: pl.Expr, zone: str) -> Moments:
    """Return local times in UTC: of an hour that comes twice the first, of a day its first moment.

    Clocks that go forward at midnight leave that day without one; a date there is the moment at which it begins.
    """
    if zone == "UTC":
        return Moments(naive.dt.replace_time_zone("UTC"), pl.lit(False))
    local = _in_zone(naive, zone)
    day = pl.when(local.is_null() & (naive == naive.dt.truncate("1d"))).then(naive)
    # The evening before exists: three hours on lies the moment of the change, or half an hour behind it.
    change = _in_zone(day.dt.offset_by("-3h"), zone).dt.offset_by("3h")
    begins = pl.coalesce(_on(day, change.dt.offset_by("-30m"), zone), _on(day, change, zone))
    value = pl.coalesce(local, begins)
    return Moments(value, naive.is_not_null() & value.is_null())


def _in_zone(naive: pl.Expr, zone: str) -> pl.Expr:
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _on(day: pl.Expr, moment: pl.Expr, zone: str) -> pl.Expr:
    return pl.when(moment.dt.convert_time_zone(zone).dt.date() == day.dt.date()).then(moment)
