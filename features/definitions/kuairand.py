"""Which features does KuaiRand have? Who the user is, what the video is, and what both did so far."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Float64, Int64, String

from features.definitions import Definitions
from features.definitions.movielens import user
from features.definitions.recipe import Activity, History, Profile, Rate, Recipe

# One meaning of TTL, as for MovieLens: whole days, zero means that a row never expires.
NEVER = timedelta(0)
ACTIVITY_LIFE = timedelta(days=30)


def _source(name: str, description: str) -> FileSource:
    return FileSource(
        name=name,
        path=f"{name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=description,
    )


video = Entity(name="video", join_keys=["video_id"], value_type=ValueType.INT64, description="A short video.")

kuairand_user_profile_source = _source("kuairand_user_profile", "Attributes of users, as of the release.")
kuairand_user_activity_source = _source("kuairand_user_activity", "State of users after each of their timestamps.")
kuairand_video_profile_source = _source("kuairand_video_profile", "Attributes of videos.")
kuairand_video_activity_source = _source("kuairand_video_activity", "State of videos after each of their timestamps.")

COUNT = {"kind": "bin", "buckets": "32"}
SIZE = {"kind": "bin", "buckets": "16"}
# What the training split hardly holds is read as unknown: ids of few rows are learned by heart within an epoch.
RARE = {"kind": "vocabulary", "min_count": "30"}

# Codes have no published meaning; they are categories. Numbers are binned at training quantiles.
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USER_CODES = ("is_live_streamer", "is_video_author", *(f"onehot_feat{i}" for i in range(18)))
VIDEO_WORDS = ("video_type", "upload_type")
VIDEO_CODES = ("author_id", "music_id", "music_type")
VIDEO_NUMBERS = ("video_duration", "server_width", "server_height")

# Constants near the rates of the log: computed from the data they would tell early rows about later labels.
RATES = (Rate("click", prior=0.4), Rate("long_view", prior=0.3))
RECIPES: dict[str, Recipe] = {
    "kuairand_user_profile": Profile(key="user_id", columns=("user_active_degree", *USER_NUMBERS, *USER_CODES)),
    "kuairand_user_activity": Activity(
        key="user_id",
        prefix="user",
        rates=RATES,
        history=History(column="video_id", name="recent_videos", feedback="click", feedback_name="recent_clicks"),
    ),
    "kuairand_video_profile": Profile(key="video_id", columns=(*VIDEO_WORDS, *VIDEO_CODES, *VIDEO_NUMBERS, "tags")),
    "kuairand_video_activity": Activity(key="video_id", prefix="video", rates=RATES),
}

kuairand_user_profile = FeatureView(
    name="kuairand_user_profile",
    entities=[user],
    ttl=NEVER,
    source=kuairand_user_profile_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        Field(name="user_active_degree", dtype=String),
        *(Field(name=name, dtype=Int64, tags=SIZE) for name in USER_NUMBERS),
        *(Field(name=name, dtype=Int64, tags=RARE) for name in USER_CODES),
    ],
)
kuairand_user_activity = FeatureView(
    name="kuairand_user_activity",
    entities=[user],
    ttl=ACTIVITY_LIFE,
    source=kuairand_user_activity_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        Field(name="user_impressions", dtype=Int64, tags=COUNT, description="Since the window's start."),
        Field(name="user_click_rate", dtype=Float32, description="Smoothed towards 0.4."),
        Field(name="user_long_view_rate", dtype=Float32, description="Smoothed towards 0.3."),
        Field(name="user_gap_seconds", dtype=Float64, tags=COUNT, description="Between the last two timestamps."),
        Field(
            name="recent_videos",
            dtype=Array(Int64),
            tags={"kind": "sequence", "shares": "video_id", "length": "50"},
            description="Newest videos, most recent first.",
        ),
        Field(
            name="recent_clicks",
            dtype=Array(Int64),
            tags={"role": "auxiliary"},
            description="1 where the video at the same place of recent_videos was clicked.",
        ),
    ],
)
kuairand_video_profile = FeatureView(
    name="kuairand_video_profile",
    entities=[video],
    ttl=NEVER,
    source=kuairand_video_profile_source,
    schema=[
        Field(name="video_id", dtype=Int64),
        *(Field(name=name, dtype=String) for name in VIDEO_WORDS),
        *(Field(name=name, dtype=Int64, tags=RARE) for name in VIDEO_CODES),
        *(Field(name=name, dtype=Int64, tags=COUNT) for name in VIDEO_NUMBERS),
        Field(name="tags", dtype=Array(String), tags={"kind": "bag", "length": "4"}),
    ],
)
kuairand_video_activity = FeatureView(
    name="kuairand_video_activity",
    entities=[video],
    ttl=ACTIVITY_LIFE,
    source=kuairand_video_activity_source,
    schema=[
        Field(name="video_id", dtype=Int64),
        Field(name="video_impressions", dtype=Int64, tags=COUNT, description="Since the window's start."),
        Field(name="video_click_rate", dtype=Float32, description="Smoothed towards 0.4."),
        Field(name="video_long_view_rate", dtype=Float32, description="Smoothed towards 0.3."),
        Field(name="video_gap_seconds", dtype=Float64, tags=COUNT, description="Between the last two timestamps."),
    ],
)

kuairand_ranker = FeatureService(
    name="kuairand_ranker",
    features=[kuairand_user_profile, kuairand_user_activity, kuairand_video_profile, kuairand_video_activity],
    description="Attributes and everything that happened before the impression.",
)

DEFINITIONS = Definitions(
    entities=(user, video),
    views=(kuairand_user_profile, kuairand_user_activity, kuairand_video_profile, kuairand_video_activity),
    services=(kuairand_ranker,),
    recipes=RECIPES,
)
