"""Does a raw file hold the columns that its name promises? Checked before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from components.ingest.ingest_household.config import ATTRIBUTES
from components.platform.errors import BadInputError, MissingError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

WHOLE, NUMBER, WORD, TIME = "whole number", "number", "word", "time"
COLUMNS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "campaign_descriptions": {"campaign_id": WHOLE, "campaign_type": WORD, "start_date": TIME, "end_date": TIME},
        "campaigns": {"campaign_id": WHOLE, "household_id": WHOLE},
        "coupon_redemptions": {"household_id": WHOLE, "campaign_id": WHOLE, "redemption_date": TIME},
        "coupons": {"coupon_upc": WHOLE, "product_id": WHOLE, "campaign_id": WHOLE},
        "demographics": {"household_id": WHOLE, **dict.fromkeys(ATTRIBUTES, WORD)},
        "products": {"product_id": WHOLE, "department": WORD},
        "promotions": {
            "product_id": WHOLE,
            "store_id": WHOLE,
            "week": WHOLE,
            "display_location": WORD,
            "mailer_location": WORD,
        },
        "transactions": {
            "household_id": WHOLE,
            "store_id": WHOLE,
            "basket_id": WHOLE,
            "product_id": WHOLE,
            "week": WHOLE,
            "quantity": WHOLE,
            "sales_value": NUMBER,
            "retail_disc": NUMBER,
            "coupon_disc": NUMBER,
            "coupon_match_disc": NUMBER,
            "transaction_timestamp": TIME,
        },
    }
)
"""Columns that are read, by file name without its ending, and what each must hold."""
OPTIONAL = {*ATTRIBUTES, "department"}
"""Columns that may be null."""


def scan(folder: Path, name: str) -> pl.LazyFrame:
    """Return the columns of ``<name>.parquet`` that are read.

    Args:
        folder: where the files of the release lie.
        name: key of `COLUMNS`.

    Raises:
        MissingError: there is no file.
        BadInputError: it is no Parquet file, holds no rows, lacks a column, has one of another type, or one with nulls.
    """
    import polars as pl

    path = folder / f"{name}.parquet"
    wanted = COLUMNS[name]
    if not path.exists():
        raise MissingError(f"{path} is missing: put the file there, or set download: true")
    try:
        found = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"{path} is no whole Parquet file ({reason}); delete it and run again") from None
    for column, what in wanted.items():
        if column not in found:
            raise BadInputError(f"{path}: column {column!r} is missing{did_you_mean(column, found)}; correct the file")
        if not _holds(found[column], what):
            raise BadInputError(f"{path}: column {column!r} is {found[column]}, expected a {what}; correct the file")
    frame = pl.scan_parquet(path).select(*wanted)
    required = [column for column in wanted if column not in OPTIONAL]
    absent = [
        (~pl.col(column).is_finite() if wanted[column] == NUMBER else pl.col(column).is_null())
        .fill_null(True).sum().alias(column)
        for column in required
    ]  # fmt: skip
    rows, *counts = frame.select(pl.len().alias("__rows"), *absent).collect(engine="streaming").row(0)
    if not rows:
        raise BadInputError(f"{path} holds no rows; delete it and run again")
    for column, count in zip(required, counts, strict=True):
        if count:
            raise BadInputError(f"{path}: column {column!r} has no value in {count:,} rows; correct the file")
    return frame


def once(frame: pl.DataFrame, key: list[str], path: Path) -> pl.DataFrame:
    """Return `frame`, in which no `key` occurs twice.

    Raises:
        BadInputError: one does.
    """
    import polars as pl

    again = frame.filter(pl.int_range(pl.len()).over(key) > 0)
    if len(again):
        which = ", ".join(f"{name} {value}" for name, value in zip(key, again.select(key).row(0), strict=True))
        raise BadInputError(f"{path}: {which} occurs twice (of {len(again):,} repeated rows); keep one row of each")
    return frame


def with_attributes(rows: pl.DataFrame, table: pl.DataFrame, on: str, where: Path) -> pl.DataFrame:
    """Return exposures with the attributes of `table`, null where an id has no row.

    Args:
        rows: exposures.
        table: at most one row per id.
        on: column of the ids, of one type in both.
        where: file of the table, for the error.

    Raises:
        BadInputError: not one exposure finds its row; a model would be trained on nothing but nulls.
    """
    if rows.is_empty() or rows[on].is_in(table[on].implode()).any():
        return rows.join(table, on=on, how="left")
    there = f"{table[on][0]!r} there" if len(table) else "the table holds no rows"
    raise BadInputError(
        f"{where}: not one of {len(rows):,} exposures finds its row, {on} is such as {rows[on][0]!r} in the log and "
        f"{there}; put the files of one release together"
    )


def _holds(dtype: pl.DataType, what: str) -> bool:
    import polars as pl

    if what == TIME:
        # Times are moments of UTC or days of the tills' own zone: a zone of the file would be a third meaning.
        return isinstance(dtype, pl.Datetime) and dtype.time_zone is None
    return {WHOLE: dtype.is_integer(), NUMBER: dtype.is_numeric(), WORD: dtype == pl.String}[what]
