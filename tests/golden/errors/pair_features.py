"""Definitions with a view of two entities over a recipe of one, which would mix rows; read, never run."""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Int64, String

from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Activity

shopper = Entity(name="shopper", join_keys=["user_id"], value_type=ValueType.STRING)
article = Entity(name="article", join_keys=["item_id"], value_type=ValueType.STRING)
pair = FeatureView(
    name="pair",
    entities=[shopper, article],
    ttl=NEVER,
    source=source("pair", "What a shopper did with an article."),
    schema=[
        Field(name="user_id", dtype=String),
        Field(name="item_id", dtype=String),
        Field(name="pair_impressions", dtype=Int64),
    ],
)
shop_ranker = FeatureService(name="shop_ranker", features=[pair])

DEFINITIONS = Definitions(
    entities=(shopper, article),
    views=(pair,),
    services=(shop_ranker,),
    recipes={"pair": Activity(key="user_id", prefix="pair")},
)
