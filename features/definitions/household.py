"""Which features do the household offers have? Who the household is, what it bought, and what campaigns did with it.

Shopping and campaigns are two streams with times of their own, next to what they add up to.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Array, Float32, Int64, String

from features.definitions import Definitions
from features.definitions.common import COUNT, NEVER, activity_fields, listed_field, source, times_field
from features.definitions.recipe import Activity, History, Profile, Rate, Recipe, Sum

SHOPPING_LIFE = timedelta(days=91)
"""A household that has not shopped for a quarter has no recent shopping."""
BASKETS, ACTIONS = 64, 16
"""Longest streams: departments of baskets, and actions of campaigns."""
# A constant near the rate of the data: computed from it, it would tell early rows about later labels.
REDEEM = Rate("redeem", prior=0.12, weight=5)

household = Entity(
    name="household", join_keys=["household_id"], value_type=ValueType.INT64, description="People who shop together."
)
campaign = Entity(
    name="campaign", join_keys=["campaign_id"], value_type=ValueType.INT64, description="Coupons sent on one day."
)
campaign_type = Entity(
    name="campaign_type", join_keys=["campaign_type"], value_type=ValueType.STRING, description="Kind of campaign."
)

household_profile_source = source("household_profile", "Attributes of households; half of them have none.")
household_shopping_source = source("household_shopping", "Shopping of households after each of their baskets.")
household_actions_source = source("household_actions", "What campaigns did with households so far.")
household_outcomes_source = source("household_outcomes", "How a household's campaigns ended so far.")
campaign_profile_source = source("campaign_profile", "Attributes of campaigns.")
campaign_type_outcomes_source = source("campaign_type_outcomes", "How campaigns of a kind ended so far.")

ATTRIBUTES = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
CAMPAIGN_NUMBERS = ("duration_days", "coupons", "products")
SHOPPING = Activity(
    key="household_id",
    prefix="shopping",
    log="transactions",
    sums=tuple(Sum(column, days=28) for column in ("items", "cents", "discount_cents", "coupon_cents")),
    history=History(
        {
            "recent_departments": "department",
            "recent_spend_codes": "spend_code",
            "recent_offer_codes": "offer_code",
            "recent_basket_times": "event_timestamp",
        },
        length=BASKETS,
    ),
)
CAMPAIGNS = Activity(
    key="household_id",
    prefix="household",
    log="actions",
    history=History(
        {
            "recent_actions": "action",
            "recent_campaign_types": "campaign_type",
            "recent_action_times": "event_timestamp",
        },
        length=ACTIONS,
    ),
)
PAST = Activity(key="household_id", prefix="past", rates=(REDEEM,), log="outcomes")
TYPE = Activity(key="campaign_type", prefix="type", rates=(REDEEM,), log="outcomes")
RECIPES: dict[str, Recipe] = {
    "household_profile": Profile(key="household_id", columns=ATTRIBUTES),
    "household_shopping": SHOPPING,
    "household_actions": CAMPAIGNS,
    "household_outcomes": PAST,
    "campaign_profile": Profile(key="campaign_id", columns=(*CAMPAIGN_NUMBERS, "departments")),
    "campaign_type_outcomes": TYPE,
}

household_profile = FeatureView(
    name="household_profile",
    entities=[household],
    ttl=NEVER,
    source=household_profile_source,
    schema=[Field(name="household_id", dtype=Int64), *(Field(name=name, dtype=String) for name in ATTRIBUTES)],
)
household_shopping = FeatureView(
    name="household_shopping",
    entities=[household],
    ttl=SHOPPING_LIFE,
    source=household_shopping_source,
    schema=[
        Field(name="household_id", dtype=Int64),
        *activity_fields(SHOPPING),
        listed_field("recent_departments", BASKETS, "recent_basket_times", text=True, auxiliary=False),
        listed_field("recent_spend_codes", BASKETS, "recent_basket_times"),
        listed_field("recent_offer_codes", BASKETS, "recent_basket_times"),
        times_field("recent_basket_times", BASKETS),
    ],
)
household_actions = FeatureView(
    name="household_actions",
    entities=[household],
    ttl=NEVER,
    source=household_actions_source,
    schema=[
        Field(name="household_id", dtype=Int64),
        *activity_fields(CAMPAIGNS),
        listed_field("recent_actions", ACTIONS, "recent_action_times", text=True, auxiliary=False),
        listed_field("recent_campaign_types", ACTIONS, "recent_action_times", text=True, shares="campaign_type"),
        times_field("recent_action_times", ACTIONS),
    ],
)
household_outcomes = FeatureView(
    name="household_outcomes",
    entities=[household],
    ttl=NEVER,
    source=household_outcomes_source,
    schema=[Field(name="household_id", dtype=Int64), *activity_fields(PAST)],
)
campaign_profile = FeatureView(
    name="campaign_profile",
    entities=[campaign],
    ttl=NEVER,
    source=campaign_profile_source,
    schema=[
        Field(name="campaign_id", dtype=Int64),
        *(Field(name=name, dtype=Int64, tags=COUNT) for name in CAMPAIGN_NUMBERS),
        Field(name="departments", dtype=Array(String), tags={"kind": "bag", "length": "24"}),
    ],
)
campaign_type_outcomes = FeatureView(
    name="campaign_type_outcomes",
    entities=[campaign_type],
    ttl=NEVER,
    source=campaign_type_outcomes_source,
    # Its count and gap tell the date and nothing else: there are three kinds.
    schema=[
        Field(name="campaign_type", dtype=String),
        Field(name="type_redeem_rate", dtype=Float32, description=f"Smoothed towards {REDEEM.prior:g}."),
    ],
)

VIEWS = (
    household_profile,
    household_shopping,
    household_actions,
    household_outcomes,
    campaign_profile,
    campaign_type_outcomes,
)
household_ranker = FeatureService(
    name="household_ranker",
    features=list(VIEWS),
    description="Attributes, two timed streams and what they add up to, as known when a campaign starts.",
)

DEFINITIONS = Definitions(
    entities=(household, campaign, campaign_type), views=VIEWS, services=(household_ranker,), recipes=RECIPES
)
