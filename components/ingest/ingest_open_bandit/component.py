"""How does a policy's log become impressions with click, position, propensity and attributes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.download import ensure_files
from components.ingest.events_table import inside, raw_annotations, schema_of, with_attributes, write_events
from components.ingest.ingest_open_bandit.config import COLUMNS, PRODUCT_CODES, USER_CODES, Config, Outputs
from components.ingest.ingest_open_bandit.release import log_name, needed, products_name
from components.ingest.wheels import SHIPPED
from components.platform.contract import NoInputs, RunContext
from features.declaration import Window

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

CAMPAIGN = {"all": "everyone"}
"""Names of campaigns that reports would misread: they say ``all`` for every domain together."""
HASH = 8
"""Characters of a hashed attribute that tell its values apart."""


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the events table of the run's window.

    Raises:
        BadInputError: a file is damaged, or the window holds no impression.
        MissingError: a file is absent and may not be downloaded.
    """
    source, data = SHIPPED["open-bandit"], context.settings.data
    folder = ensure_files(source, data, download=config.download, verify=config.verify, report=context.progress)
    files = {name: folder / name for name in needed(config.policy, config.campaigns)}
    for name, digest in raw_annotations(files).items():
        context.annotate(name, digest)
    frame = read_events(folder, config, context.window)
    events = write_events(context.draft("events"), frame, events_schema(), context.window)
    for line in _summary(frame):
        context.note(line)
    return Outputs(events=events)


def read_events(folder: Path, config: Config, window: Window) -> pl.DataFrame:
    """Return the impressions of `window`, one row per shown product, sorted by time, segment and product.

    Args:
        folder: where the files of the release lie.
        config: policy and campaigns.
        window: half-open.

    Raises:
        BadInputError: a file breaks its format, or `window` holds no impression.
    """
    import polars as pl

    campaigns = sorted(set(config.campaigns))
    logs = [folder / log_name(config.policy, campaign) for campaign in campaigns]
    products = [folder / products_name(config.policy, campaign) for campaign in campaigns]
    shown = pl.concat(
        [_log(path, config.policy, CAMPAIGN.get(name, name)) for path, name in zip(logs, campaigns, strict=True)]
    )
    known = pl.concat(
        [_products(path, CAMPAIGN.get(name, name)) for path, name in zip(products, campaigns, strict=True)]
    )
    rows = inside(window, shown, what="impression", where=", ".join(map(str, logs)))
    return (
        with_attributes(rows, known, "product_id", products[0])
        .sort("event_timestamp", "segment", "product_id", "position", "click", "propensity", maintain_order=True)
        .select(events_schema().names)
    )


def _log(path: Path, policy: str, campaign: str) -> pl.DataFrame:
    import polars as pl

    from components.ingest import csv_table

    raw = csv_table.read(path, ("timestamp", "item_id", "position", "click", "propensity_score", *USER_CODES))
    time = raw.moments("timestamp")
    item = raw.integers("item_id", pl.Int64)
    users = {name: raw.strings(name) for name in USER_CODES}
    return pl.DataFrame(users).select(
        # The release has no user ids: people with equal attributes cannot be told apart.
        pl.concat_str([pl.col(name).str.head(HASH).fill_null("") for name in USER_CODES], separator="-").alias(
            "segment"
        ),
        pl.format("{}/{}", pl.lit(campaign), item).alias("product_id"),
        time.alias("event_timestamp"),
        time.alias("created_timestamp"),  # the release does not say when a row was stored
        pl.lit(campaign).alias("campaign"),
        pl.lit(policy).alias("policy"),
        raw.integers("position", pl.Int8).alias("position"),
        raw.flags("click").alias("click"),
        raw.numbers("propensity_score").alias("propensity"),
        *USER_CODES,
    )


def _products(path: Path, campaign: str) -> pl.DataFrame:
    import polars as pl

    from components.ingest import csv_table

    raw = csv_table.read(path, ("item_id", "item_feature_0", *PRODUCT_CODES))
    raw.unique("item_id")
    number = raw.numbers("item_feature_0")
    codes = {name.replace("item", "product"): raw.strings(name) for name in PRODUCT_CODES}
    return pl.DataFrame({"item": raw.integers("item_id", pl.Int64), "product_feature_0": number, **codes}).select(
        pl.format("{}/{}", pl.lit(campaign), pl.col("item")).alias("product_id"), pl.exclude("item")
    )


def events_schema() -> pa.Schema:
    """Return the columns of `events.parquet`, in order."""
    return schema_of(COLUMNS)


def _summary(frame: pl.DataFrame) -> list[str]:
    import polars as pl

    policy = frame["policy"][0]
    parts = frame.group_by("campaign").agg(pl.len(), pl.col("product_id").n_unique(), pl.col("click").sum())
    lines = [
        f"{policy} in campaign {name}: {rows:,} impressions of {products} products, {clicks} clicks "
        f"({100 * clicks / rows:.2f} %)"
        for name, rows, products, clicks in parts.sort("campaign").iter_rows()
    ]
    without = int(frame["product_feature_0"].null_count())
    return lines + ([f"{without:,} impressions without a product's attributes"] if without else [])
