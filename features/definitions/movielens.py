"""Which features does MovieLens have? Who the user is, what the item is, and what both did so far."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Float64, Int64, String

from features.definitions import Definitions
from features.definitions.recipe import Activity, History, Profile, Rate, Recipe

# One meaning of TTL: a row older than this at the impression counts as missing, offline and online.
# Whole days only, because the offline store rejects mixed units; zero means that it never expires.
NEVER = timedelta(0)
ACTIVITY_LIFE = timedelta(days=180)


def _source(name: str, description: str) -> FileSource:
    return FileSource(
        name=name,
        path=f"{name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=description,
    )


user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64, description="A person who rates.")
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64, description="A film.")

user_profile_source = _source("user_profile", "Attributes of users since signup.")
user_activity_source = _source("user_activity", "State of users after each of their timestamps.")
item_profile_source = _source("item_profile", "Attributes of films.")
item_activity_source = _source("item_activity", "State of films after each of their timestamps.")

RATES = (Rate("like", prior=0.5), Rate("love", prior=0.2))
RECIPES: dict[str, Recipe] = {
    "user_profile": Profile(key="user_id", columns=("age", "gender", "occupation")),
    "user_activity": Activity(
        key="user_id",
        prefix="user",
        rates=RATES,
        history=History(column="item_id", name="recent_items", feedback="like", feedback_name="recent_likes"),
    ),
    "item_profile": Profile(key="item_id", columns=("release_year", "genres")),
    "item_activity": Activity(key="item_id", prefix="item", rates=RATES),
}

# Tags carry the default encoding: the keys of `features.encoding.FieldEncoding`, and `role: auxiliary`
# for a feature that the ranker does not see unless the pipeline encodes it by name.
COUNT = {"kind": "bin", "buckets": "32"}

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
        Field(name="user_impressions", dtype=Int64, tags=COUNT, description="Since the window's start."),
        Field(name="user_like_rate", dtype=Float32, description="Smoothed towards 0.5."),
        Field(name="user_love_rate", dtype=Float32, description="Smoothed towards 0.2."),
        Field(name="user_gap_seconds", dtype=Float64, tags=COUNT, description="Between the last two timestamps."),
        Field(
            name="recent_items",
            dtype=Array(Int64),
            tags={"kind": "sequence", "shares": "item_id", "length": "50"},
            description="Newest items, most recent first.",
        ),
        Field(
            name="recent_likes",
            dtype=Array(Int64),
            tags={"role": "auxiliary"},
            description="1 where the item at the same place of recent_items was liked.",
        ),
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
item_activity = FeatureView(
    name="item_activity",
    entities=[item],
    ttl=ACTIVITY_LIFE,
    source=item_activity_source,
    schema=[
        Field(name="item_id", dtype=Int64),
        Field(name="item_impressions", dtype=Int64, tags=COUNT, description="Since the window's start."),
        Field(name="item_like_rate", dtype=Float32, description="Smoothed towards 0.5."),
        Field(name="item_love_rate", dtype=Float32, description="Smoothed towards 0.2."),
        Field(name="item_gap_seconds", dtype=Float64, tags=COUNT, description="Between the last two timestamps."),
    ],
)

movielens_profile = FeatureService(
    name="movielens_profile",
    features=[user_profile, item_profile],
    description="Attributes only: what a linear ranker of the literature sees.",
)
movielens_ranker = FeatureService(
    name="movielens_ranker",
    features=[user_profile, user_activity, item_profile, item_activity],
    description="Attributes and everything that happened before the impression.",
)

DEFINITIONS = Definitions(
    entities=(user, item),
    views=(user_profile, user_activity, item_profile, item_activity),
    services=(movielens_profile, movielens_ranker),
    recipes=RECIPES,
)
