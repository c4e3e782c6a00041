"""What does `feast -c features apply` register? Only what is imported here; every other file is ignored.

Feast imports each file of its folder as a top-level module, which would load the definitions twice.
"""

from pathlib import Path

from features.definitions.common import user
from features.definitions.household import (
    campaign,
    campaign_profile,
    campaign_profile_source,
    campaign_type,
    campaign_type_outcomes,
    campaign_type_outcomes_source,
    household,
    household_actions,
    household_actions_source,
    household_outcomes,
    household_outcomes_source,
    household_profile,
    household_profile_source,
    household_ranker,
    household_shopping,
    household_shopping_source,
)
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
    user_activity,
    user_activity_source,
    user_profile,
    user_profile_source,
)
from features.definitions.open_bandit import (
    open_bandit_product_profile,
    open_bandit_product_profile_source,
    open_bandit_ranker,
    open_bandit_segment_profile,
    open_bandit_segment_profile_source,
    product,
    segment,
)

__all__ = [
    "campaign",
    "campaign_profile",
    "campaign_profile_source",
    "campaign_type",
    "campaign_type_outcomes",
    "campaign_type_outcomes_source",
    "household",
    "household_actions",
    "household_actions_source",
    "household_outcomes",
    "household_outcomes_source",
    "household_profile",
    "household_profile_source",
    "household_ranker",
    "household_shopping",
    "household_shopping_source",
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
    "open_bandit_product_profile",
    "open_bandit_product_profile_source",
    "open_bandit_ranker",
    "open_bandit_segment_profile",
    "open_bandit_segment_profile_source",
    "product",
    "segment",
    "user",
    "user_activity",
    "user_activity_source",
    "user_profile",
    "user_profile_source",
    "video",
]

# Feast makes the last folder of its registry's path only; on a fresh clone its parent is missing as well.
(Path(__file__).resolve().parent.parent / ".rankmill").mkdir(exist_ok=True)
