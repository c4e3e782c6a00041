"""Which features does MovieLens have? Who the user is, what the item is, and what both did so far."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Array, Int64, String

from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, listed_field, source, times_field, user
from features.definitions.recipe import Activity, History, Profile, Rate, Recipe

ACTIVITY_LIFE = timedelta(days=180)

item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64, description="A film.")

user_profile_source = source("user_profile", "Attributes of users since signup.")
user_activity_source = source("user_activity", "State of users after each of their timestamps.")
user_long_activity_source = source("user_long_activity", "The same, with what they did long ago.")
item_profile_source = source("item_profile", "Attributes of films.")
film_codes_source = source("film_codes", "What a film is alike, by its text.")
item_activity_source = source("item_activity", "State of films after each of their timestamps.")

RATES = (Rate("like", prior=0.5), Rate("love", prior=0.2))
USER_ACTIVITY = Activity(
    key="user_id",
    prefix="user",
    rates=RATES,
    history=History({"recent_items": "item_id", "recent_likes": "like", "recent_times": "event_timestamp"}),
)
USER_LONG_ACTIVITY = Activity(
    key="user_id",
    prefix="user",
    rates=RATES,
    history=History(
        {"recent_items": "item_id", "recent_likes": "like", "recent_times": "event_timestamp"}, length=1000
    ),
)
ITEM_ACTIVITY = Activity(key="item_id", prefix="item", rates=RATES)
RECIPES: dict[str, Recipe] = {
    "user_profile": Profile(key="user_id", columns=("age", "gender", "occupation")),
    "user_activity": USER_ACTIVITY,
    "user_long_activity": USER_LONG_ACTIVITY,
    "item_profile": Profile(key="item_id", columns=("release_year", "genres")),
    "film_codes": Profile(key="item_id", columns=("sid_1", "sid_12")),
    "item_activity": ITEM_ACTIVITY,
}

user_profile = FeatureView(
    name="user_profile",
    entities=[user],
    ttl=NEVER,
    source=user_profile_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        Field(name="age", dtype=Int64, description="Years, at signup."),
        Field(name="gender", dtype=String),
        Field(name="occupation", dtype=String),
    ],
)
user_activity = FeatureView(
    name="user_activity",
    entities=[user],
    ttl=ACTIVITY_LIFE,
    source=user_activity_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        *activity_fields(USER_ACTIVITY),
        listed_field("recent_items", 50, "recent_times", shares="item_id", auxiliary=False),
        listed_field("recent_likes", 50, "recent_times"),
        times_field("recent_times", 50),
    ],
)
user_long_activity = FeatureView(
    name="user_long_activity",
    entities=[user],
    ttl=ACTIVITY_LIFE,
    source=user_long_activity_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        *activity_fields(USER_LONG_ACTIVITY),
        listed_field("recent_items", 1000, "recent_times", shares="item_id", auxiliary=False),
        listed_field("recent_likes", 1000, "recent_times"),
        times_field("recent_times", 1000),
    ],
)
item_profile = FeatureView(
    name="item_profile",
    entities=[item],
    ttl=NEVER,
    source=item_profile_source,
    schema=[
        Field(name="item_id", dtype=Int64),
        Field(name="release_year", dtype=Int64),
        Field(name="genres", dtype=Array(String), tags={"kind": "bag", "length": "6"}),
    ],
)
film_codes = FeatureView(
    name="film_codes",
    entities=[item],
    ttl=NEVER,
    source=film_codes_source,
    schema=[
        Field(name="item_id", dtype=Int64),
        Field(name="sid_1", dtype=Int64, description="Group of films alike, by assign_semantic_ids."),
        Field(name="sid_12", dtype=Int64, description="The group within that group."),
    ],
)
item_activity = FeatureView(
    name="item_activity",
    entities=[item],
    ttl=ACTIVITY_LIFE,
    source=item_activity_source,
    schema=[
        Field(name="item_id", dtype=Int64),
        *activity_fields(ITEM_ACTIVITY),
    ],
)

movielens_profile = FeatureService(
    name="movielens_profile",
    features=[user_profile, item_profile],
    description="Attributes only: what a linear ranker of the literature sees.",
)
movielens_codes = FeatureService(
    name="movielens_codes",
    features=[user_profile, item_profile, film_codes],
    description="Attributes, and the codes that assign_semantic_ids gave each film.",
)
movielens_ranker = FeatureService(
    name="movielens_ranker",
    features=[user_profile, user_activity, item_profile, item_activity],
    description="Attributes and everything that happened before the impression.",
)
movielens_long_histories = FeatureService(
    name="movielens_long_histories",
    features=[user_profile, user_long_activity, item_profile, item_activity],
    description="The same with histories of a thousand events.",
)

DEFINITIONS = Definitions(
    entities=(user, item),
    views=(user_profile, user_activity, user_long_activity, item_profile, film_codes, item_activity),
    services=(movielens_profile, movielens_codes, movielens_ranker, movielens_long_histories),
    recipes=RECIPES,
)
