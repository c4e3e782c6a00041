"""Does a household's feature row know what had happened when a campaign started, and nothing of what came later?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from features.declaration import Window
from features.definitions import load_definitions
from features.definitions.recipe import IMPRESSIONS
from features.recipes.table import compute_table
from features.services.service import describe

WINDOW = Window(start=datetime(2016, 12, 1, tzinfo=UTC), end=datetime(2017, 5, 1, tzinfo=UTC))


def state(world: Any, source: str, moment: datetime, **keys: Any) -> dict[str, Any] | None:
    """Return the newest row that had happened and was known before a moment."""
    recipe = load_definitions().recipes[source]
    tables = world.tables()
    frame = compute_table(recipe, tables[recipe.log].lazy(), WINDOW).filter(
        pl.col("event_timestamp") < moment, pl.col("created_timestamp") < moment,
        *(pl.col(name) == value for name, value in keys.items()),
    )  # fmt: skip
    return frame.row(-1, named=True) if len(frame) else None


def day(month: int, number: int) -> datetime:
    return datetime(2017, month, number, 5, tzinfo=UTC)


def test_a_running_campaign_tells_what_was_redeemed_and_a_finished_one_how_it_ended(world: Any) -> None:
    """Campaign 1 runs from 1 to 10 February; campaign 2 starts on the 5th."""
    running = state(world, "household_actions", day(2, 5), household_id=10)
    assert running is not None
    assert running["recent_actions"] == ["sent", "redeemed"]
    assert running["recent_campaign_types"] == ["Type A", "Type A"]
    assert state(world, "household_outcomes", day(2, 5), household_id=10) is None
    over = state(world, "household_outcomes", day(3, 1), household_id=10)
    assert over is not None
    assert over["past_outcomes"] == 2
    assert over["past_redeem_rate"] == pytest.approx((1 + 0.12 * 5) / (2 + 5))


@pytest.mark.parametrize(("number", "known"), [(1, None), (2, None), (3, ["sent", "redeemed"])])
def test_a_redemption_is_unknown_on_its_own_day(world: Any, number: int, known: list[str] | None) -> None:
    row = state(world, "household_actions", day(2, number), household_id=10)
    assert (row["recent_actions"] if row else None) == known


def test_a_kind_of_campaign_is_known_by_the_campaigns_that_are_over(world: Any) -> None:
    row = state(world, "campaign_type_outcomes", day(3, 1), campaign_type="Type A")
    assert row is not None
    assert row["type_redeem_rate"] == pytest.approx((1 + 0.12 * 5) / (2 + 5))
    assert state(world, "campaign_type_outcomes", day(2, 10), campaign_type="Type A") is None


LABELLED = ("household_actions", "household_outcomes", "campaign_type_outcomes")


@pytest.mark.parametrize("source", LABELLED)
def test_no_label_of_a_later_moment_changes_an_earlier_state(world: Any, source: str) -> None:
    """Turn every redemption after 9 February around: what was known by the 10th stays as it was."""
    recipe = load_definitions().recipes[source]
    moment = day(2, 10)

    def known() -> pl.DataFrame:
        frame = compute_table(recipe, world.tables()[recipe.log].lazy(), WINDOW)
        return frame.filter(pl.col("event_timestamp") < moment, pl.col("created_timestamp") < moment)

    before = known()
    late = pl.col("redemption_date") >= pl.datetime(2017, 2, 9, time_unit="ns")
    world.change("coupon_redemptions", lambda frame: frame.filter(~late))
    assert known().equals(before)


def test_a_redemption_of_an_earlier_moment_does_change_it(world: Any) -> None:
    """The comparison above can fail."""
    before = state(world, "household_actions", day(2, 10), household_id=10)
    world.change("coupon_redemptions", lambda frame: frame.filter(pl.col("household_id") != 10))
    assert state(world, "household_actions", day(2, 10), household_id=10) != before


def test_shopping_lists_departments_and_adds_up_four_weeks(world: Any) -> None:
    row = state(world, "household_shopping", day(3, 1), household_id=10)
    assert row is not None
    assert row["recent_departments"] == ["UNKNOWN", "GROCERY"]
    assert (row["recent_spend_codes"], row["recent_offer_codes"]) == ([2, 4], [8, 7])
    assert (row["shopping_cents_28d"], row["shopping_items_28d"], row["shopping_coupon_cents_28d"]) == (500, 3, 50)
    micros = int(datetime(2017, 2, 3, 15, tzinfo=UTC).timestamp() * 1_000_000)
    assert row["recent_basket_times"] == [micros, micros]


def test_the_streams_have_times_of_their_own_and_no_feature_is_read_from_the_exposure_s_label() -> None:
    features = {feature.name: feature for feature in describe("household_ranker")[0]}
    for name, times in (
        ("recent_departments", "recent_basket_times"),
        ("recent_offer_codes", "recent_basket_times"),
        ("recent_actions", "recent_action_times"),
        ("recent_campaign_types", "recent_action_times"),
    ):
        encoding = features[name].encoding
        assert encoding is not None
        assert encoding.timed_by == times
    recipes = load_definitions().recipes
    for source in describe("household_ranker")[1]:
        recipe = recipes[source.name]
        assert recipe.log != IMPRESSIONS or "redeem" not in getattr(recipe, "columns", ())
        assert recipe.log != IMPRESSIONS or not hasattr(recipe, "rates"), "labels of running campaigns would leak"
