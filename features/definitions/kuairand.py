"""Which features does KuaiRand have? Who the user is, what the video is, and what both did so far."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Array, Int64, String

from features.definitions import Definitions
from features.definitions.common import COUNT, NEVER, activity_fields, listed_field, source, times_field, user
from features.definitions.recipe import Activity, History, Profile, Rate, Recipe

ACTIVITY_LIFE = timedelta(days=30)

video = Entity(name="video", join_keys=["video_id"], value_type=ValueType.INT64, description="A short video.")

kuairand_user_profile_source = source("kuairand_user_profile", "Attributes of users, as of the release.")
kuairand_user_activity_source = source("kuairand_user_activity", "State of users after each of their timestamps.")
kuairand_video_profile_source = source("kuairand_video_profile", "Attributes of videos.")
kuairand_video_activity_source = source("kuairand_video_activity", "State of videos after each of their timestamps.")

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
USER_ACTIVITY = Activity(
    key="user_id",
    prefix="user",
    rates=RATES,
    history=History(
        {
            "recent_videos": "video_id",
            "recent_authors": "author_id",
            "recent_clicks": "click",
            "recent_long_views": "long_view",
            "recent_tabs": "tab",
            "recent_times": "event_timestamp",
        }
    ),
)
VIDEO_ACTIVITY = Activity(key="video_id", prefix="video", rates=RATES)
RECIPES: dict[str, Recipe] = {
    "kuairand_user_profile": Profile(key="user_id", columns=("user_active_degree", *USER_NUMBERS, *USER_CODES)),
    "kuairand_user_activity": USER_ACTIVITY,
    "kuairand_video_profile": Profile(key="video_id", columns=(*VIDEO_WORDS, *VIDEO_CODES, *VIDEO_NUMBERS, "tags")),
    "kuairand_video_activity": VIDEO_ACTIVITY,
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
        *activity_fields(USER_ACTIVITY),
        listed_field("recent_videos", 50, "recent_times", shares="video_id", auxiliary=False),
        listed_field("recent_authors", 50, "recent_times", shares="author_id"),
        listed_field("recent_clicks", 50, "recent_times"),
        listed_field("recent_long_views", 50, "recent_times"),
        listed_field("recent_tabs", 50, "recent_times", text=True, shares="tab"),
        times_field("recent_times", 50),
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
        *activity_fields(VIDEO_ACTIVITY),
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
