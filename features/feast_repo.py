"""What does `feast -c features apply` register? Only what is imported here; every other file is ignored.

Feast imports each file of its folder as a top-level module, which would load the definitions twice.
"""

from pathlib import Path

from features.definitions.kuairand import (
    kuairand_ranker,
    kuairand_user_activity,
    kuairand_user_activity_source,
    kuairand_user_profile,
    kuairand_user_profile_source,
    kuairand_video_activity,
    kuairand_video_activity_source,
    kuairand_video_profile,
    kuairand_video_profile_source,
    video,
)
from features.definitions.movielens import (
    item,
    item_activity,
    item_activity_source,
    item_profile,
    item_profile_source,
    movielens_profile,
    movielens_ranker,
    user,
    user_activity,
    user_activity_source,
    user_profile,
    user_profile_source,
)

__all__ = [
    "item",
    "item_activity",
    "item_activity_source",
    "item_profile",
    "item_profile_source",
    "kuairand_ranker",
    "kuairand_user_activity",
    "kuairand_user_activity_source",
    "kuairand_user_profile",
    "kuairand_user_profile_source",
    "kuairand_video_activity",
    "kuairand_video_activity_source",
    "kuairand_video_profile",
    "kuairand_video_profile_source",
    "movielens_profile",
    "movielens_ranker",
    "user",
    "user_activity",
    "user_activity_source",
    "user_profile",
    "user_profile_source",
    "video",
]

# Feast makes the last folder of its registry's path only; on a fresh clone its parent is missing as well.
(Path(__file__).resolve().parent.parent / ".rankmill").mkdir(exist_ok=True)
