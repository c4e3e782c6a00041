"""How do a grocer's campaigns become exposures with a label, attributes and the logs of what happened before?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.download import ensure_files, paths_of
from components.ingest.events_table import ANNOTATION, schema_of, write_events, write_log
from components.ingest.ingest_household import logs
from components.ingest.ingest_household.clock import covered, day_starts, inside
from components.ingest.ingest_household.config import COLUMNS, Config, Outputs
from components.ingest.ingest_household.raw_files import once, scan, with_attributes
from components.ingest.wheels import SHIPPED
from components.platform.contract import NoInputs, RunContext
from components.platform.errors import BadInputError
from features.declaration import Window
from features.ground.files import sha256_file

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

TIME, CREATED = logs.TIME, logs.CREATED


@dataclass(frozen=True)
class Tables:
    """What the files hold about a window."""

    events: pl.DataFrame
    """Exposures of households to campaigns, sorted by time, household and campaign."""
    logs: dict[str, pl.DataFrame]
    """By name, see `components.ingest.ingest_household.logs.schemas`."""
    left_out: int
    """Exposures of campaigns that were observed too little."""


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the events table of the run's window and its logs.

    Raises:
        BadInputError: a file is damaged, or the window holds no exposure.
        MissingError: a file is absent and may not be downloaded.
    """
    source, data = SHIPPED["household-offers"], context.settings.data
    folder = ensure_files(source, data, download=config.download, verify=config.verify, report=context.progress)
    for name, path in paths_of(source, data).items():
        context.annotate(ANNOTATION + name, sha256_file(path))
    tables = read_tables(folder, config, context.window)
    draft = context.draft("events")
    events = write_events(draft, tables.events, events_schema(), context.window)
    for name, schema in logs.schemas().items():
        write_log(draft, name, tables.logs[name], schema)
    for line in _summary(tables):
        context.note(line)
    return Outputs(events=events)


def read_tables(folder: Path, config: Config, window: Window) -> Tables:
    """Return the exposures of `window` and the logs around them.

    An exposure is dated at the first moment of its campaign. Its label is whether the household redeemed a coupon of
    the campaign until the campaign's end, as far as the window reaches; `created_timestamp` is that end. Households
    and campaigns without attributes keep their rows, with nulls.

    Args:
        folder: where the files of the release lie.
        config: which exposures count.
        window: half-open.

    Raises:
        BadInputError: a file breaks its format, or `window` holds no exposure.
        MissingError: a file is absent.
    """
    import polars as pl

    where = folder / "campaigns.parquet"
    shown = inside(window, _exposures(folder), str(where))
    redeemed = logs.redemptions(folder, shown, window)
    labels = redeemed.select("household_id", "campaign_id", pl.lit(1, pl.Int8).alias("redeem")).unique()
    first, last = covered(logs.receipts(folder), window)
    seen = pl.min_horizontal("ends", pl.lit(last)) - pl.max_horizontal(TIME, pl.lit(first))
    labelled = shown.join(labels, on=["household_id", "campaign_id"], how="left").with_columns(
        pl.col("redeem").fill_null(0),
        (seen / (pl.col("ends") - pl.col(TIME))).clip(0, 1).alias("observed"),
    )
    counted = labelled.filter(pl.col("observed") >= config.min_observed)
    if counted.is_empty():
        raise BadInputError(
            f"no campaign of the window {window} was observed for {config.min_observed:g} of its days: {where.parent} "
            f"covers {first:%Y-%m-%d} to {last:%Y-%m-%d} of them; lower min_observed or move the window of the pipeline"
        )
    demographics = folder / "demographics.parquet"
    people = once(scan(folder, "demographics").collect(), ["household_id"], demographics)
    described = with_attributes(counted, people, "household_id", demographics)
    described = with_attributes(described, _coupons(folder), "campaign_id", folder / "coupons.parquet")
    return Tables(
        events=described.with_columns(pl.col("ends").alias(CREATED)).sort(TIME, "household_id", "campaign_id"),
        logs={
            "transactions": logs.transactions(folder, window),
            "actions": logs.actions(shown, redeemed, counted, window),
            "outcomes": logs.outcomes(counted, window),
        },
        left_out=len(labelled) - len(counted),
    )


def _exposures(folder: Path) -> pl.DataFrame:
    """Return households × campaigns with ``event_timestamp``, ``ends`` (exclusive), type and duration."""
    import polars as pl

    path = folder / "campaign_descriptions.parquet"
    campaigns = once(scan(folder, "campaign_descriptions").collect(), ["campaign_id"], path)
    wrong = campaigns.filter(pl.col("end_date") < pl.col("start_date"))
    if len(wrong):
        raise BadInputError(f"{path}: campaign {wrong['campaign_id'][0]} ends before it starts; correct the file")
    known = campaigns.select(
        "campaign_id",
        "campaign_type",
        day_starts("start_date").alias(TIME),
        day_starts("end_date", later=1).alias("ends"),
        ((pl.col("end_date") - pl.col("start_date")).dt.total_days() + 1).alias("duration_days"),
    )
    shown = folder / "campaigns.parquet"
    households = once(scan(folder, "campaigns").collect(), ["household_id", "campaign_id"], shown)
    unknown = households.join(known, on="campaign_id", how="anti")
    if len(unknown):
        raise BadInputError(
            f"{shown}: campaign {unknown['campaign_id'][0]} is not in {path.name} ({len(unknown):,} rows); add it there"
        )
    return households.join(known, on="campaign_id")


def _coupons(folder: Path) -> pl.DataFrame:
    """Return how many coupons and products a campaign has, and the departments of its products."""
    import polars as pl

    products = scan(folder, "products")
    departments = pl.col("department").drop_nulls().unique().sort()
    return (
        scan(folder, "coupons")
        .join(products, on="product_id", how="left")
        .group_by("campaign_id")
        .agg(
            pl.col("coupon_upc").n_unique().cast(pl.Int64).alias("coupons"),
            pl.col("product_id").n_unique().cast(pl.Int64).alias("products"),
            departments.alias("departments"),
        )
        .collect()
    )


def events_schema() -> pa.Schema:
    """Return the columns of `events.parquet`, in order."""
    return schema_of(COLUMNS)


def _summary(tables: Tables) -> list[str]:
    import polars as pl

    events, baskets = tables.events, tables.logs["transactions"]
    parts = events.group_by("campaign_type").agg(pl.len(), pl.col("redeem").mean() * 100).sort("campaign_type")
    types = ", ".join(f"{name} {rows:,} ({rate:.1f} %)" for name, rows, rate in parts.iter_rows())
    rate = events.select(pl.col("redeem").mean() * 100).item()
    partly = events.filter(pl.col("observed") < 1)
    counts = {
        "exposures of campaigns that were observed too little left out": tables.left_out,
        f"exposures of {partly['campaign_id'].n_unique()} campaigns that were observed in part": len(partly),
        "exposures without a household's attributes": int(events["age"].null_count()),
        "exposures without a campaign's coupons": int(events["coupons"].null_count()),
    }
    return [
        f"simulated data: {len(events):,} exposures of {events['household_id'].n_unique():,} households to "
        f"{events['campaign_id'].n_unique()} campaigns; redeem {rate:.1f} %: {types}",
        f"{len(baskets):,} rows of {baskets['basket_id'].n_unique():,} baskets by department, "
        f"{len(tables.logs['actions']):,} actions of campaigns",
        *(f"{count:,} {what}" for what, count in counts.items() if count),
    ]
