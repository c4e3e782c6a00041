"""Which features does the Open Bandit data have? Who a segment of users is and what a product is.

A product's features do not change over time, so that a simulation can put any product in the place of
the one that was shown. What products did so far would need an answer for products that were not shown.
"""

from __future__ import annotations

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, String

from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile, Recipe

segment = Entity(
    name="segment",
    join_keys=["segment"],
    value_type=ValueType.STRING,
    description="People with the same four hashed attributes; the data has no user ids.",
)
product = Entity(
    name="product", join_keys=["product_id"], value_type=ValueType.STRING, description="A fashion item of a campaign."
)

open_bandit_segment_profile_source = source("open_bandit_segment_profile", "Attributes of segments.")
open_bandit_product_profile_source = source("open_bandit_product_profile", "Attributes of products.")

USER_CODES = tuple(f"user_feature_{i}" for i in range(4))
PRODUCT_CODES = tuple(f"product_feature_{i}" for i in range(1, 4))

RECIPES: dict[str, Recipe] = {
    "open_bandit_segment_profile": Profile(key="segment", columns=USER_CODES),
    "open_bandit_product_profile": Profile(key="product_id", columns=("product_feature_0", *PRODUCT_CODES)),
}

open_bandit_segment_profile = FeatureView(
    name="open_bandit_segment_profile",
    entities=[segment],
    ttl=NEVER,
    source=open_bandit_segment_profile_source,
    schema=[Field(name="segment", dtype=String), *(Field(name=name, dtype=String) for name in USER_CODES)],
)
open_bandit_product_profile = FeatureView(
    name="open_bandit_product_profile",
    entities=[product],
    ttl=NEVER,
    source=open_bandit_product_profile_source,
    schema=[
        Field(name="product_id", dtype=String),
        Field(name="product_feature_0", dtype=Float64, description="A number without a published meaning."),
        *(Field(name=name, dtype=String) for name in PRODUCT_CODES),
    ],
)

open_bandit_ranker = FeatureService(
    name="open_bandit_ranker",
    features=[open_bandit_segment_profile, open_bandit_product_profile],
    description="Attributes of segments and products, which hold for products that were not shown, too.",
)

DEFINITIONS = Definitions(
    entities=(segment, product),
    views=(open_bandit_segment_profile, open_bandit_product_profile),
    services=(open_bandit_ranker,),
    recipes=RECIPES,
)
