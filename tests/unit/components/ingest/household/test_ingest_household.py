"""Do campaigns become the promised exposures and logs, and does bad input become one sentence?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from components.ingest.ingest_household.component import events_schema
from components.ingest.ingest_household.config import COMPONENT, Config, Outputs
from components.ingest.ingest_household.logs import schemas
from components.ingest.ingest_household.recheck import raw_files_are_unchanged
from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from features.declaration import Window

START = Window(start=datetime(2016, 12, 1, tzinfo=UTC), end=datetime(2017, 5, 1, tzinfo=UTC)).start


def at(month: int, day: int, hour: int = 5, year: int = 2017) -> datetime:
    """Return a moment; New York's midnight is 05:00 UTC in winter."""
    return datetime(year, month, day, hour, tzinfo=UTC)


def test_exposures_are_typed_sorted_labelled_and_dated_by_the_tills_own_days(world: Any) -> None:
    folder, notes = world.ingest()
    table = pq.read_table(folder / "events.parquet")
    assert table.schema.remove_metadata().equals(events_schema())
    rows = pl.DataFrame(pl.from_arrow(table))
    assert rows.select("campaign_id", "household_id", "redeem").rows() == [
        (3, 11, 0), (1, 10, 1), (1, 11, 0), (2, 10, 0), (4, 10, 0),
    ]  # fmt: skip
    first, second = rows.row(0, named=True), rows.row(1, named=True)
    assert (second["event_timestamp"], second["created_timestamp"]) == (at(2, 1), at(2, 11)), "known when it is over"
    assert rows["created_timestamp"][4] == at(3, 21, 4), "New York keeps summer time by then"
    assert (second["duration_days"], second["coupons"], second["products"]) == (10, 2, 2)
    assert (second["departments"], second["age"], second["home_ownership"]) == (["DELI", "GROCERY"], "25-34", None)
    assert (first["coupons"], first["departments"], first["age"]) == (None, None, None)
    assert rows["departments"][3].to_list() == [], "the product of its coupon is unknown"
    assert notes == [
        "simulated data: 5 exposures of 2 households to 4 campaigns; redeem 20.0 %: Type A 2 (50.0 %), "
        "Type B 2 (0.0 %), Type C 1 (0.0 %)",
        "4 rows of 3 baskets by department, 11 actions of campaigns",
        "2 exposures of 2 campaigns that were observed in part",
        "2 exposures without a household's attributes",
        "2 exposures without a campaign's coupons",
    ]


@pytest.mark.parametrize(("least", "kept"), [(0.0, {1, 2, 3, 4}), (0.2, {1, 2, 3, 4}), (0.21, {1, 2, 3}), (1, {1, 2})])
def test_campaigns_that_were_observed_too_little_are_left_out(world: Any, least: float, kept: set[int]) -> None:
    tables = world.tables(min_observed=least)
    assert set(tables["events"]["campaign_id"]) == set(tables["outcomes"]["campaign_id"]) == kept
    lapsed = tables["actions"].filter(pl.col("action") == "lapsed")["campaign_id"]
    assert set(lapsed) == kept, "how an unseen campaign ended is not made up"
    assert len(tables["actions"].filter(pl.col("action") == "sent")) == 5, "that it was sent is known all the same"


def test_the_observed_share_counts_the_tills_days(world: Any) -> None:
    shares = dict(world.tables()["events"].select("campaign_id", "observed").rows())
    assert shares == pytest.approx({1: 1, 2: 1, 3: 5 / 10, 4: 4 / 20}, abs=1e-3)


def test_baskets_are_summed_by_department_with_codes_and_flags(world: Any) -> None:
    folder, _ = world.ingest()
    for name, schema in schemas().items():
        assert pq.read_schema(folder / f"{name}.parquet").remove_metadata().equals(schema)
    log = pl.read_parquet(folder / "transactions.parquet").filter(pl.col("basket_id") == 500)
    numbers = ("items", "quantity", "cents", "discount_cents", "coupon_cents", "offer_code", "spend_code")
    assert log.select("department", *numbers).rows() == [
        ("GROCERY", 2, 3, 400, 40, 0, 1 + 2 + 4, 4),  # ⌊2 · log2(5)⌋
        ("UNKNOWN", 1, 1, 100, 0, 50, 8, 2),
    ]
    assert log["event_timestamp"].to_list() == [at(2, 3, 15)] * 2 == log["created_timestamp"].to_list()


def test_actions_are_known_no_earlier_than_their_day_is_over(world: Any) -> None:
    rows = world.tables()["actions"].filter(pl.col("campaign_id") == 1)
    assert rows.select("household_id", "action", "event_timestamp", "created_timestamp").rows() == [
        (10, "redeemed", at(2, 1), at(2, 2)),
        (10, "sent", at(2, 1), at(2, 1)),
        (11, "sent", at(2, 1), at(2, 1)),
        (10, "redeemed", at(2, 10), at(2, 11)),
        (11, "lapsed", at(2, 11), at(2, 11)),
    ]  # fmt: skip


def test_nothing_outside_the_window_is_read(world: Any) -> None:
    """A run of 6 February knows that campaign 1 was redeemed, not how campaign 2 will end."""
    tables = world.tables(Window(start=START, end=at(2, 6)))
    assert tables["events"].select("campaign_id", "household_id", "redeem").rows() == [
        (3, 11, 0), (1, 10, 1), (1, 11, 0), (2, 10, 0),
    ]  # fmt: skip
    assert dict(tables["events"].select("campaign_id", "observed").rows()) == pytest.approx({3: 0.5, 1: 0.5, 2: 0.1})
    assert tables["outcomes"]["campaign_id"].to_list() == [3]
    assert max(frame["event_timestamp"].max() for frame in tables.values()) < at(2, 6)
    with pytest.raises(BadInputError, match=r"no exposure lies in the window .* covers 2016-12-28 05:00 to 2017-03-01"):
        world.ingest(Window(start=at(4, 1), end=at(5, 1)))
    with pytest.raises(BadInputError, match=r"observed for 0\.9 of its days: .* lower min_observed or move the window"):
        world.ingest(Window(start=at(2, 28), end=at(5, 1)), min_observed=0.9)


def test_the_order_of_rows_changes_no_byte(world: Any) -> None:
    before, _ = world.ingest()
    for path in world.folder.glob("*.parquet"):
        world.change(path.stem, lambda frame: frame.reverse())
    after, _ = world.ingest()
    names = sorted(path.name for path in before.iterdir())
    assert names == ["actions.parquet", "events.parquet", "outcomes.parquet", "transactions.parquet", "window.json"]
    for name in names:
        assert (before / name).read_bytes() == (after / name).read_bytes(), name


def _renamed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.rename({"household_id": "household"})


@pytest.mark.parametrize(
    ("name", "edit", "expected"),
    [
        ("campaigns", _renamed, "campaigns.parquet: column 'household_id' is missing .did you mean 'household'"),
        ("transactions", lambda f: f.cast({"quantity": pl.Float64}), "'quantity' is Float64, expected a whole number"),
        (
            "coupon_redemptions",
            lambda f: f.with_columns(pl.col("redemption_date").dt.replace_time_zone("UTC")),
            "column 'redemption_date' is .*UTC.*, expected a time",
        ),
        (
            "transactions",
            lambda f: f.with_columns(pl.lit(float("nan")).alias("sales_value")),
            "column 'sales_value' has no value in 5 rows",
        ),
        (
            "campaigns",
            lambda f: f.with_columns(pl.lit(None, pl.Int64).alias("household_id")),
            "column 'household_id' has no value in 5 rows",
        ),
        ("campaigns", lambda f: pl.concat([f, f.head(1)]), "household_id 10, campaign_id 4 occurs twice"),
        ("demographics", lambda f: pl.concat([f, f]), "demographics.parquet: household_id 10 occurs twice"),
        ("campaigns", lambda f: f.with_columns(pl.lit(9).alias("campaign_id")).head(1), "campaign 9 is not in"),
        ("products", lambda f: f.head(0), "products.parquet holds no rows"),
        (
            "campaign_descriptions",
            lambda f: f.with_columns(pl.col("start_date").alias("end_date"), pl.col("end_date").alias("start_date")),
            "campaign 1 ends before it starts",
        ),
    ],
)
def test_bad_input_is_one_sentence_with_file_and_column(
    world: Any, name: str, edit: Callable[[pl.DataFrame], pl.DataFrame], expected: str
) -> None:
    world.change(name, edit)
    with pytest.raises(BadInputError, match=expected) as caught:
        world.ingest()
    assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_or_absent_is_named(world: Any) -> None:
    path = world.folder / "promotions.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInputError, match=r"promotions\.parquet is no whole Parquet file"):
        world.ingest()
    with pytest.raises(BadInputError, match="was changed or cut off"):
        world.ingest(verify=True)
    path.unlink()
    with pytest.raises(MissingError, match=r"promotions\.parquet is missing"):
        world.ingest()


@pytest.mark.parametrize("verify", [False, True])
def test_changed_files_are_read_again_unless_their_bytes_are_pinned(
    world: Any, verify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.at(world.home)
    window = Window(start=START, end=at(5, 1))
    request = StageRequest(component="ingest_household", window=window, config={"verify": False, "download": False})
    first = execute(request, settings)
    assert not first.cached
    assert execute(request, settings).cached
    world.change("demographics", lambda frame: frame.with_columns(pl.lit("65+").alias("age")))
    changed = raw_files_are_unchanged(
        Outputs(events=first.outputs["events"].load()),
        Config(verify=verify),
        settings,
    )
    assert (changed is None) if verify else "demographics.parquet has changed" in str(changed)
    assert not execute(request, settings).cached


def test_it_says_that_the_data_is_simulated(world: Any) -> None:
    assert "simulated" in COMPONENT.summary
    assert world.ingest()[1][0].startswith("simulated data: ")
