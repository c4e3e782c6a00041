"""Does the suite of the household data let good exposures through and stop what would train a wrong model?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from components.data.validate_data.component import check_table
from components.ingest.ingest_household.component import events_schema
from features import suites
from features.declaration import Window

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2017, 1, 1, tzinfo=UTC), end=datetime(2018, 1, 1, tzinfo=UTC))
ROWS = 300
Edit = Callable[[pl.DataFrame], pl.DataFrame]


def exposures() -> pl.DataFrame:
    """Return good rows: 100 households, one campaign of each kind."""
    place = pl.int_range(ROWS, eager=True)
    kind = place % 3
    start = pl.Series([WINDOW.start + timedelta(days=30 * int(one)) for one in kind], dtype=pl.Datetime("us", "UTC"))
    words = dict.fromkeys(
        ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp"), "x"
    )
    return pl.DataFrame({"household_id": place // 3, "campaign_id": kind, "event_timestamp": start}).with_columns(
        (pl.col("event_timestamp") + timedelta(days=32)).alias("created_timestamp"),
        pl.Series("campaign_type", [f"Type {'ABC'[one]}" for one in kind]),
        (pl.int_range(pl.len()) % 8 == 0).cast(pl.Int8).alias("redeem"),
        pl.lit(1.0).alias("observed"),
        pl.lit(32, pl.Int64).alias("duration_days"),
        pl.lit(10, pl.Int64).alias("coupons"),
        pl.lit(50, pl.Int64).alias("products"),
        pl.concat_list(pl.lit("GROCERY")).alias("departments"),
        *(pl.lit(value).alias(name) for name, value in words.items()),
        pl.lit("0").alias("kids_count"),
    )


def broken(edit: Edit) -> tuple[set[tuple[str, str]], int]:
    """Return the expectations that fail with their action, and the rows that are kept."""
    table = edit(exposures()).to_arrow(compat_level=pl.CompatLevel.oldest())
    typed = table.select(events_schema().names).cast(events_schema())
    result, kept, _ = check_table(typed, suites.load("household_events"), WINDOW, datetime(2026, 1, 1, tzinfo=UTC))
    assert not [one.problem for one in result.expectations if one.problem]
    return {(one.action, one.label) for one in result.expectations if not one.passed}, kept.num_rows


def test_good_exposures_pass_every_rule() -> None:
    assert broken(lambda frame: frame) == (set(), ROWS)


@pytest.mark.parametrize(
    ("edit", "action", "rule"),
    [
        (lambda f: f.with_columns(pl.col("event_timestamp").alias("created_timestamp")), "fail", "to_be_greater_than"),
        (lambda f: f.with_columns(pl.lit(2, pl.Int8).alias("redeem")), "fail", "in_set(redeem"),
        (lambda f: f.with_columns(pl.lit(0, pl.Int8).alias("redeem")), "fail", "mean_to_be_between(redeem"),
        (lambda f: f.with_columns(pl.lit("Type D").alias("campaign_type")), "fail", "in_set(campaign_type"),
        (lambda f: f.with_columns(pl.col("event_timestamp") + timedelta(days=700)), "fail", "between(event_timestamp"),
        (lambda f: f.with_columns(pl.lit(0, pl.Int64).alias("coupons")), "fail", "between(coupons"),
        (lambda f: f.with_columns(pl.lit(1.2).alias("observed")), "fail", "between(observed"),
        (lambda f: f.with_columns(pl.lit(0.5).alias("observed")), "warn", "between(observed"),
        (lambda f: f.with_columns(pl.lit(None, pl.String).alias("age")), "warn", "not_be_null(age"),
        (lambda f: f.head(60), "fail", "row_count"),
    ],
)
def test_a_broken_table_is_stopped_or_told(edit: Edit, action: str, rule: str) -> None:
    failed, _ = broken(edit)
    assert any(one == action and rule in label for one, label in failed), failed


@pytest.mark.parametrize(
    ("edit", "lost"),
    [
        (lambda f: pl.concat([f, f.head(1)]), 1),  # both rows of the exposure go, one of them was added
        (lambda f: f.with_columns(pl.when(pl.int_range(pl.len()) > 1).then("products").alias("products")), 2),
    ],
)
def test_single_rows_are_sent_aside(edit: Edit, lost: int) -> None:
    assert broken(edit)[1] == ROWS - lost
