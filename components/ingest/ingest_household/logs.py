"""What happened around the exposures? Shopping by basket and department, what campaigns did, and how they ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.ingest_household.clock import day_starts, moment
from components.ingest.ingest_household.raw_files import once, scan
from features.declaration import Window

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

TIME, CREATED = "event_timestamp", "created_timestamp"
UNKNOWN = "UNKNOWN"
"""Department of a product that the file of products does not hold."""
DISCOUNT, DISPLAY, MAILER, COUPON = 1, 2, 4, 8
"""Bits of `offer_code`: a reduced shelf price, a product on a display, one in a mailer, a coupon that was used."""
SENT, REDEEMED, LAPSED = "sent", "redeemed", "lapsed"
"""Actions of a campaign."""


def receipts(folder: Path) -> pl.LazyFrame:
    """Return the lines of the till receipts with their ``event_timestamp``.

    Raises:
        BadInputError: the file breaks its format.
        MissingError: it is absent.
    """
    return scan(folder, "transactions").with_columns(moment("transaction_timestamp").alias(TIME))


def transactions(folder: Path, window: Window) -> pl.DataFrame:
    """Return one row per basket and department inside the window, sorted by time, household, basket and department.

    `spend_code` is ⌊2 · log2(1 + dollars)⌋: bins that need no data, so that no row knows of later ones.

    Raises:
        BadInputError: a file breaks its format.
        MissingError: a file is absent.
    """
    import polars as pl

    departments = once(scan(folder, "products").collect(), ["product_id"], folder / "products.parquet")
    lines = receipts(folder).filter(pl.col(TIME).is_between(window.start, window.end, closed="left"))
    place = ["product_id", "store_id", "week"]
    # Of 21 million promotions only those of bought products matter; a place may be promoted in several ways.
    shown = (
        scan(folder, "promotions")
        .join(lines.select(place).unique(), on=place, how="semi")
        .group_by(place)
        .agg(
            (pl.col("display_location") != "0").any().alias("display"),
            (pl.col("mailer_location") != "0").any().alias("mailer"),
        )
    )

    def bit(flag: pl.Expr, value: int) -> pl.Expr:
        return flag.fill_null(False).any().cast(pl.Int64) * value

    def cents(column: str) -> pl.Expr:
        return (pl.col(column) * 100).round().cast(pl.Int64).sum()

    coupon = (pl.col("coupon_disc") > 0) | (pl.col("coupon_match_disc") > 0)
    return (
        lines.join(departments.lazy(), on="product_id", how="left")
        .join(shown, on=place, how="left")
        .with_columns(pl.col("department").fill_null(UNKNOWN))
        .group_by("household_id", "basket_id", TIME, "department")
        .agg(
            pl.len().cast(pl.Int64).alias("items"),
            pl.col("quantity").cast(pl.Int64).sum(),
            cents("sales_value").alias("cents"),
            cents("retail_disc").alias("discount_cents"),
            (cents("coupon_disc") + cents("coupon_match_disc")).alias("coupon_cents"),
            (
                bit(pl.col("retail_disc") > 0, DISCOUNT)
                + bit(pl.col("display"), DISPLAY)
                + bit(pl.col("mailer"), MAILER)
                + bit(coupon, COUPON)
            ).alias("offer_code"),
        )
        .with_columns(
            (2 * (1 + pl.col("cents").clip(0) / 100).log(2)).floor().cast(pl.Int64).alias("spend_code"),
            pl.col(TIME).alias(CREATED),  # a till stores its receipt at once
        )
        .sort(TIME, "household_id", "basket_id", "department")
        .collect(engine="streaming")
    )


def redemptions(folder: Path, exposures: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return one row per exposure and day with a redeemed coupon, inside the campaign and the window.

    The file names days only, so a redemption is known once its day is over: `created_timestamp`.

    Args:
        folder: where the files of the release lie.
        exposures: rows with `campaign_type`, ``event_timestamp`` (the campaign's start) and ``ends``.
        window: half-open.

    Raises:
        BadInputError: the file breaks its format.
        MissingError: it is absent.
    """
    import polars as pl

    keys = ["household_id", "campaign_id"]
    days = (
        scan(folder, "coupon_redemptions")
        .select(*keys, day_starts("redemption_date").alias(TIME), day_starts("redemption_date", later=1).alias(CREATED))
        .filter(pl.col(TIME).is_between(window.start, window.end, closed="left"))
        .unique()
        .collect()
    )
    sent = exposures.select(*keys, "campaign_type", "ends", pl.col(TIME).alias("starts"))
    inside = pl.col(TIME).is_between(pl.col("starts"), pl.col("ends"), closed="left")
    return days.join(sent, on=keys).filter(inside).select(*keys, "campaign_type", TIME, CREATED)


def actions(sent: pl.DataFrame, redeemed: pl.DataFrame, labelled: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return what campaigns did with households, one row per action, sorted by time, household, campaign and action.

    Args:
        sent: exposures with `campaign_type` and ``event_timestamp``, the campaign's start.
        redeemed: rows of `redemptions`.
        labelled: exposures that count, with ``ends`` and `redeem` too.
        window: half-open; an offer lapses at its campaign's end, when that lies inside.
    """
    import polars as pl

    keys = ["household_id", "campaign_id", "campaign_type"]

    def rows(frame: pl.DataFrame, action: str, time: str, known: str) -> pl.DataFrame:
        return frame.select(
            *keys, pl.lit(action).alias("action"), pl.col(time).alias(TIME), pl.col(known).alias(CREATED)
        )

    lapsed = labelled.filter((pl.col("redeem") == 0) & (pl.col("ends") < window.end))
    parts = [
        rows(sent, SENT, TIME, TIME),
        rows(redeemed, REDEEMED, TIME, CREATED),
        rows(lapsed, LAPSED, "ends", "ends"),
    ]
    return pl.concat(parts).sort(TIME, "household_id", "campaign_id", "action")


def outcomes(exposures: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return how each exposure ended, at the moment at which that was known: the end of its campaign.

    A rate from this log counts redeemed and lapsed offers alike. One from offers as they are redeemed would not:
    those that lapse are known weeks later.
    """
    import polars as pl

    return (
        exposures.select(
            "household_id",
            "campaign_id",
            "campaign_type",
            "redeem",
            pl.col("ends").alias(TIME),
            pl.col("ends").alias(CREATED),
        )
        .filter(pl.col(TIME) < window.end)
        .sort(TIME, "household_id", "campaign_id")
    )


def schemas() -> dict[str, pa.Schema]:
    """Return the columns of each log, in order, by its name."""
    import pyarrow as pa

    time = pa.timestamp("us", "UTC")
    when = [(TIME, time), (CREATED, time)]
    campaign = [("household_id", pa.int64()), ("campaign_id", pa.int64()), ("campaign_type", pa.string())]
    amounts = ("items", "quantity", "cents", "discount_cents", "coupon_cents", "offer_code", "spend_code")
    basket = [("household_id", pa.int64()), ("basket_id", pa.int64()), *when, ("department", pa.string())]
    return {
        "transactions": pa.schema([*basket, *((name, pa.int64()) for name in amounts)]),
        "actions": pa.schema([*campaign, ("action", pa.string()), *when]),
        "outcomes": pa.schema([*campaign, ("redeem", pa.int8()), *when]),
    }
