"""Which features does KuaiRand have? Who the user is, what the video is, and what both did so far, also together."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Array, Int64, String

from features.definitions import Definitions
from features.definitions.common import COUNT, NEVER, activity_fields, listed_field, source, times_field, user
from features.definitions.recipe import Activity, Count, Decay, History, Last, Profile, Rate, Recipe

ACTIVITY_LIFE = timedelta(days=30)

video = Entity(name="video", join_keys=["video_id"], value_type=ValueType.INT64, description="A short video.")
author = Entity(
    name="kuairand_author", join_keys=["author_id"], value_type=ValueType.INT64, description="Whoever made a video."
)
tab = Entity(
    name="kuairand_tab",
    join_keys=["tab"],
    value_type=ValueType.STRING,
    description="The page of the app that shows the video.",
)

kuairand_user_profile_source = source("kuairand_user_profile", "Attributes of users, as of the release.")
kuairand_user_activity_source = source("kuairand_user_activity", "State of users after each of their timestamps.")
kuairand_video_profile_source = source("kuairand_video_profile", "Attributes of videos.")
kuairand_video_activity_source = source("kuairand_video_activity", "State of videos after each of their timestamps.")
kuairand_author_source = source("kuairand_author", "State of authors after each of their timestamps.")
kuairand_liking_source = source("kuairand_liking", "What a user did with an author's videos so far.")
kuairand_again_source = source("kuairand_again", "What a user did with a video so far.")
kuairand_habit_source = source("kuairand_habit", "What a user did on a page of the app so far.")
kuairand_hours_source = source("kuairand_hours", "What a user did in the last hours.")
kuairand_watching_source = source("kuairand_watching", "How long a user watched videos so far.")
kuairand_page_source = source("kuairand_page", "What happened on a page of the app in the last hours.")
kuairand_place_source = source("kuairand_place", "What happened to a video on a page of the app so far.")

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
            "recent_watched": "watched",
            "recent_times": "event_timestamp",
        }
    ),
)
VIDEO_ACTIVITY = Activity(key="video_id", prefix="video", rates=RATES)
# A combination has few impressions, so its prior counts for less.
PAIR_RATES = (Rate("click", prior=0.4, weight=3), Rate("long_view", prior=0.3, weight=3))
AUTHOR = Activity(key="author_id", prefix="author", rates=RATES)
LIKING = Activity(key=("user_id", "author_id"), prefix="liking", rates=PAIR_RATES)
AGAIN = Activity(key=("user_id", "video_id"), prefix="again", rates=PAIR_RATES)
WATCHES = (
    Rate("watched_3s", prior=0.5, weight=3),
    Rate("watched_10s", prior=0.4, weight=3),
    Rate("watched_30s", prior=0.2, weight=3),
    Rate("finished", prior=0.15, weight=3),
)
HABIT = Activity(
    key=("user_id", "tab"),
    prefix="habit",
    rates=(
        *PAIR_RATES,
        *WATCHES,
        Rate("click", prior=0.4, weight=2, over=Decay(hours=6)),
        Rate("long_view", prior=0.3, weight=2, over=Decay(hours=6)),
    ),
)
HOUR = Last(hours=1)
QUARTER = Last(hours=6)
DAY = Last(hours=24)
HOURS = Activity(
    key="user_id",
    prefix="hours",
    rates=(
        Rate("click", prior=0.4, weight=3, over=HOUR),
        Rate("click", prior=0.4, weight=3, over=QUARTER),
        Rate("click", prior=0.4, weight=3, over=DAY),
        Rate("long_view", prior=0.3, weight=3, over=HOUR),
        Rate("long_view", prior=0.3, weight=3, over=QUARTER),
        Rate("long_view", prior=0.3, weight=3, over=DAY),
    ),
    counts=(Count(over=HOUR), Count(over=QUARTER), Count(over=DAY)),
)
WATCHING = Activity(key="user_id", prefix="watching", rates=WATCHES)
PAGE = Activity(
    key="tab",
    prefix="page",
    rates=(
        Rate("click", prior=0.4, weight=50, over=DAY),
        Rate("long_view", prior=0.3, weight=50, over=DAY),
    ),
)
PLACE = Activity(key=("video_id", "tab"), prefix="place", rates=RATES)
RECIPES: dict[str, Recipe] = {
    "kuairand_user_profile": Profile(key="user_id", columns=("user_active_degree", *USER_NUMBERS, *USER_CODES)),
    "kuairand_user_activity": USER_ACTIVITY,
    "kuairand_video_profile": Profile(key="video_id", columns=(*VIDEO_WORDS, *VIDEO_CODES, *VIDEO_NUMBERS, "tags")),
    "kuairand_video_activity": VIDEO_ACTIVITY,
    "kuairand_author": AUTHOR,
    "kuairand_liking": LIKING,
    "kuairand_again": AGAIN,
    "kuairand_habit": HABIT,
    "kuairand_place": PLACE,
    "kuairand_hours": HOURS,
    "kuairand_watching": WATCHING,
    "kuairand_page": PAGE,
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
        listed_field("recent_watched", 50, "recent_times", text=True),
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
kuairand_author = FeatureView(
    name="kuairand_author",
    entities=[author],
    ttl=ACTIVITY_LIFE,
    source=kuairand_author_source,
    schema=[
        Field(name="author_id", dtype=Int64),
        *activity_fields(AUTHOR, binned=True),
    ],
)
kuairand_liking = FeatureView(
    name="kuairand_liking",
    entities=[user, author],
    ttl=ACTIVITY_LIFE,
    source=kuairand_liking_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        Field(name="author_id", dtype=Int64),
        *activity_fields(LIKING, binned=True),
    ],
)
kuairand_again = FeatureView(
    name="kuairand_again",
    entities=[user, video],
    ttl=ACTIVITY_LIFE,
    source=kuairand_again_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        Field(name="video_id", dtype=Int64),
        *activity_fields(AGAIN, binned=True),
    ],
)
kuairand_habit = FeatureView(
    name="kuairand_habit",
    entities=[user, tab],
    ttl=ACTIVITY_LIFE,
    source=kuairand_habit_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        Field(name="tab", dtype=String),
        *activity_fields(HABIT, binned=True),
    ],
)
kuairand_place = FeatureView(
    name="kuairand_place",
    entities=[video, tab],
    ttl=ACTIVITY_LIFE,
    source=kuairand_place_source,
    schema=[
        Field(name="video_id", dtype=Int64),
        Field(name="tab", dtype=String),
        *activity_fields(PLACE, binned=True),
    ],
)
kuairand_hours = FeatureView(
    name="kuairand_hours",
    entities=[user],
    ttl=ACTIVITY_LIFE,
    source=kuairand_hours_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        *activity_fields(HOURS, binned=True),
    ],
)
kuairand_watching = FeatureView(
    name="kuairand_watching",
    entities=[user],
    ttl=ACTIVITY_LIFE,
    source=kuairand_watching_source,
    schema=[
        Field(name="user_id", dtype=Int64),
        *activity_fields(WATCHING, binned=True),
    ],
)
kuairand_page = FeatureView(
    name="kuairand_page",
    entities=[tab],
    ttl=ACTIVITY_LIFE,
    source=kuairand_page_source,
    schema=[
        Field(name="tab", dtype=String),
        *activity_fields(PAGE),
    ],
)

APART = (kuairand_user_profile, kuairand_user_activity, kuairand_video_profile, kuairand_video_activity)
VIEWS = (
    *APART,
    kuairand_hours,
    kuairand_watching,
    kuairand_page,
    kuairand_author,
    kuairand_liking,
    kuairand_again,
    kuairand_habit,
    kuairand_place,
)
kuairand_apart = FeatureService(
    name="kuairand_apart",
    features=list(APART),
    description="Attributes, and what users and videos did before the impression, each by itself.",
)
kuairand_ranker = FeatureService(
    name="kuairand_ranker",
    features=list(VIEWS),
    description="Attributes and everything that happened before the impression.",
)

DEFINITIONS = Definitions(
    entities=(user, video, author, tab), views=VIEWS, services=(kuairand_apart, kuairand_ranker), recipes=RECIPES
)
