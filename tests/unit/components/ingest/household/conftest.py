"""What do these tests share? A grocer with four campaigns and three households that a test can damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.ingest.ingest_household.component import run
from components.ingest.ingest_household.config import Config
from components.platform.contract import NoInputs
from features.declaration import Window
from tests.ingesting import context_at

WINDOW = Window(start=datetime(2016, 12, 1, tzinfo=UTC), end=datetime(2017, 5, 1, tzinfo=UTC))
DAY = pl.Datetime("ns")
LINE = ("household_id", "basket_id", "product_id", "transaction_timestamp", "week", "quantity", "sales_value")
LINES = [
    (10, 500, 1, datetime(2017, 2, 3, 15), 5, 2, 3.10),  # reduced, in a mailer
    (10, 500, 2, datetime(2017, 2, 3, 15), 5, 1, 0.90),  # the same department, on a display
    (10, 500, 9, datetime(2017, 2, 3, 15), 5, 1, 1.00),  # a product that nobody knows, with a coupon
    (11, 501, 3, datetime(2017, 1, 3, 4, 59), 1, 1, 7.00),  # 23:59 of the 2nd in New York: the first day of the tills
    (11, 502, 1, datetime(2017, 3, 5, 4), 9, 1, 15.00),  # 23:00 of the 4th: the last day
]
DISCOUNTS = {1: 0.4}
COUPONS = {9: 0.5}


def files() -> dict[str, pl.DataFrame]:
    """Return the eight raw files."""
    day = datetime
    lines = pl.DataFrame(LINES, schema=LINE, orient="row").with_columns(
        pl.lit(316).alias("store_id"),
        pl.col("transaction_timestamp").cast(DAY),
        pl.Series("retail_disc", [DISCOUNTS.get(line[2], 0.0) if line[1] == 500 else 0.0 for line in LINES]),
        pl.Series("coupon_disc", [COUPONS.get(line[2], 0.0) for line in LINES]),
        pl.lit(0.0).alias("coupon_match_disc"),
    )
    campaigns = [
        (1, "Type A", day(2017, 2, 1), day(2017, 2, 10)),
        (2, "Type B", day(2017, 2, 5), day(2017, 2, 14)),
        (3, "Type C", day(2016, 12, 28), day(2017, 1, 6)),  # tills cover five of its ten days
        (4, "Type B", day(2017, 3, 1), day(2017, 3, 20)),  # and four of these twenty
    ]
    redeemed = [
        (10, 77, 1, day(2017, 2, 1)),
        (10, 78, 1, day(2017, 2, 1)),
        (10, 77, 1, day(2017, 2, 10)),
        (11, 77, 1, day(2017, 2, 11)),  # a day too late
    ]
    people = {
        "age": "25-34", "income": "50-74K", "home_ownership": None, "marital_status": "Married",
        "household_size": "2", "household_comp": "2 Adults No Kids", "kids_count": "0",
    }  # fmt: skip
    return {
        "campaign_descriptions": pl.DataFrame(
            campaigns,
            schema={"campaign_id": pl.Int64, "campaign_type": pl.String, "start_date": DAY, "end_date": DAY},
            orient="row",
        ),
        "campaigns": pl.DataFrame({"campaign_id": [4, 1, 1, 2, 3], "household_id": [10, 11, 10, 10, 11]}),
        "coupon_redemptions": pl.DataFrame(
            redeemed,
            schema={
                "household_id": pl.Int64,
                "coupon_upc": pl.Int64,
                "campaign_id": pl.Int64,
                "redemption_date": DAY,
            },
            orient="row",
        ),
        "coupons": pl.DataFrame(
            {"coupon_upc": [77, 77, 78, 79], "product_id": [1, 3, 3, 9], "campaign_id": [1, 1, 1, 2]}
        ),
        "demographics": pl.DataFrame([{"household_id": 10, **people}], schema_overrides={"home_ownership": pl.String}),
        "products": pl.DataFrame({"product_id": [1, 2, 3], "department": ["GROCERY", "GROCERY", "DELI"]}),
        "promotions": pl.DataFrame(
            {
                "product_id": [1, 2, 2, 1],
                "store_id": [316, 316, 316, 999],
                "week": [5, 5, 5, 9],
                "display_location": ["0", "0", "3", "9"],
                "mailer_location": ["A", "0", "0", "A"],
            }
        ),
        "transactions": lines,
    }


@dataclass
class World:
    """The files on disk and a way to ingest them."""

    folder: Path
    home: Path

    def change(self, name: str, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        path = self.folder / f"{name}.parquet"
        edit(pl.read_parquet(path)).write_parquet(path)

    def ingest(self, window: Window = WINDOW, **config: Any) -> tuple[Path, list[str]]:
        """Run the component; return the folder of the events and the notes."""
        context = context_at(self.home, window)
        outputs = run(NoInputs(), Config(**{"verify": False, "download": False, **config}), context)
        return Path(outputs.events.uri), context.notes

    def tables(self, window: Window = WINDOW, **config: Any) -> dict[str, pl.DataFrame]:
        folder, _ = self.ingest(window, **config)
        return {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    home = tmp_path / "home"
    folder = home / "data" / "household-offers"
    folder.mkdir(parents=True)
    for name, frame in files().items():
        frame.write_parquet(folder / f"{name}.parquet")
    return World(folder, home)
