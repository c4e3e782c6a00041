"""Which moments do the files mean? Days begin at midnight where the tills stand; till times are UTC.

The files name no zone. The weeks of the till receipts begin at midnight in New York when their times are read as UTC
(the last receipt of week 1 is of 23:59:58 there), and so does the year; as UTC, days would begin in mid-evening.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from components.platform.errors import BadInputError
from features.declaration import Window

if TYPE_CHECKING:
    import polars as pl

LOCAL = "America/New_York"
"""Zone of the files' days."""


def moment(column: str) -> pl.Expr:
    """Return a column of UTC times without a zone as ``datetime[us, UTC]``."""
    import polars as pl

    return pl.col(column).dt.cast_time_unit("us").dt.replace_time_zone("UTC")


def day_starts(column: str, *, later: int = 0) -> pl.Expr:
    """Return when the day of a column begins, or the day `later` days after it, as ``datetime[us, UTC]``."""
    import polars as pl

    midnight = pl.col(column).dt.truncate("1d").dt.offset_by(f"{later}d").dt.cast_time_unit("us")
    return midnight.dt.replace_time_zone(LOCAL).dt.convert_time_zone("UTC")


def covered(times: pl.LazyFrame, window: Window) -> tuple[datetime, datetime]:
    """Return the half-open span of the tills' days that lies in the window; it is empty when none does.

    Args:
        times: till receipts with an ``event_timestamp``.
        window: half-open.
    """
    import polars as pl

    time = pl.col("event_timestamp").dt.convert_time_zone(LOCAL)
    ends = times.select(
        time.min().dt.truncate("1d").dt.convert_time_zone("UTC").alias("first"),
        time.max().dt.truncate("1d").dt.offset_by("1d").dt.convert_time_zone("UTC").alias("last"),
    )
    first, last = ends.collect().row(0)
    start, end = max(first, window.start), min(last, window.end)
    return start, max(start, end)


def inside(window: Window, frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return the exposures whose ``event_timestamp`` lies in the window.

    Args:
        window: half-open.
        frame: rows with an ``event_timestamp`` of ``datetime[us, UTC]``.
        where: what they were read from, for the error.

    Raises:
        BadInputError: there is none; the message holds the time range that the data covers.
    """
    import polars as pl

    time = pl.col("event_timestamp")
    rows = frame.filter(time.is_between(window.start, window.end, closed="left"))
    if rows.is_empty():
        shown = time.dt.to_string("%Y-%m-%d %H:%M")
        first, last = frame.select(shown.min().alias("first"), shown.max().alias("last")).row(0)
        raise BadInputError(
            f"no exposure lies in the window {window}: {where} covers {first} to {last} UTC; move the window of the "
            "pipeline there"
        )
    return rows
