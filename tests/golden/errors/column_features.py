"""Feast definitions that golden pipelines name; read, never run."""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int64, String

from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, listed_field, source, times_field
from features.definitions.recipe import Activity, Count, Decay, Distinct, History, Last, Profile, Rate, Since, Sum

user = Entity(name="shopper", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="article", join_keys=["item_id"], value_type=ValueType.INT64)
clicked = Entity(name="clicked", join_keys=["click"], value_type=ValueType.INT64)
request = Entity(name="shelf", join_keys=["request_id"], value_type=ValueType.STRING)

RECENT = Activity(
    key=("user_id", "item_id"),
    prefix="recent",
    rates=(Rate("click", prior=0.1, over=Last(hours=1)),),
    counts=(Count(where="clik and price > 10", over=Decay(days=7), name="dear"),),
    sums=(Sum("price", over=Last(days=7)),),
    distincts=(Distinct("city"),),
    since=(Since("click"),),
    history=History({"recent_cities": "city"}, where="click"),
)
LISTED = Activity(
    key="user_id", prefix="shopper", history=History({"seen_cities": "city", "seen_at": "event_timestamp"}, length=5)
)
RECIPES = {
    "shopper_recent": RECENT,
    "shopper_listed": LISTED,
    "shopper_profile": Profile(key="user_id", columns=("taste",)),
    "article_profile": Profile(key="item_id", columns=("price",)),
    "shelf_profile": Profile(key="request_id", columns=("device",)),
    "shopper_buys": Activity(key="user_id", prefix="shopper", log="buys"),
    "shelf_misspelt": Profile(key="user_id", columns=("tast",)),
    "shopper_clicks": Profile(key=("user_id", "click"), columns=("device",)),
}
shopper_profile = FeatureView(
    name="shopper_profile",
    entities=[user],
    ttl=NEVER,
    source=source("shopper_profile", "Shoppers."),
    schema=[Field(name="user_id", dtype=String), Field(name="taste", dtype=String)],
)
article_profile = FeatureView(
    name="article_profile",
    entities=[item],
    ttl=NEVER,
    source=source("article_profile", "Articles."),
    schema=[Field(name="item_id", dtype=Int64), Field(name="price", dtype=Float64)],
)
shelf_profile = FeatureView(
    name="shelf_profile",
    entities=[request],
    ttl=NEVER,
    source=source("shelf_profile", "Requests."),
    schema=[Field(name="request_id", dtype=String), Field(name="device", dtype=String)],
)
shelf_misspelt = FeatureView(
    name="shelf_misspelt",
    entities=[user],
    ttl=NEVER,
    source=source("shelf_misspelt", "Shoppers by a misspelt column."),
    schema=[Field(name="user_id", dtype=String), Field(name="tast", dtype=String)],
)
shopper_buys = FeatureView(
    name="shopper_buys",
    entities=[user],
    ttl=NEVER,
    source=source("shopper_buys", "What shoppers bought."),
    schema=[Field(name="user_id", dtype=String), Field(name="shopper_buys", dtype=Int64)],
)
shopper_clicks = FeatureView(
    name="shopper_clicks",
    entities=[user, clicked],
    ttl=NEVER,
    source=source("shopper_clicks", "Shoppers by what is known too late."),
    schema=[Field(name="user_id", dtype=String), Field(name="click", dtype=Int64), Field(name="device", dtype=String)],
)
shopper_recent = FeatureView(
    name="shopper_recent",
    entities=[user, item],
    ttl=NEVER,
    source=source("shopper_recent", "What a shopper did with an article lately."),
    schema=[Field(name="user_id", dtype=String), Field(name="item_id", dtype=Int64), *activity_fields(RECENT)],
)
shopper_listed = FeatureView(
    name="shopper_listed",
    entities=[user],
    ttl=NEVER,
    source=source("shopper_listed", "What a shopper saw, words as whole numbers."),
    schema=[
        Field(name="user_id", dtype=String),
        *activity_fields(LISTED),
        listed_field("seen_cities", 5, "seen_at"),
        times_field("seen_at", 5),
    ],
)

shop = FeatureService(name="shop", features=[shopper_profile, article_profile])
shop_by_request = FeatureService(name="shop_by_request", features=[shopper_profile, shelf_profile])
shop_by_click = FeatureService(name="shop_by_click", features=[shopper_clicks])
shop_misspelt = FeatureService(name="shop_misspelt", features=[shelf_misspelt])
shop_buys = FeatureService(name="shop_buys", features=[shopper_buys])
shop_recent = FeatureService(name="shop_recent", features=[shopper_recent])
shop_listed = FeatureService(name="shop_listed", features=[shopper_listed])

DEFINITIONS = Definitions(
    entities=(user, item, request, clicked),
    views=(
        shopper_profile,
        article_profile,
        shelf_profile,
        shelf_misspelt,
        shopper_buys,
        shopper_clicks,
        shopper_recent,
        shopper_listed,
    ),
    services=(shop, shop_by_request, shop_by_click, shop_misspelt, shop_buys, shop_recent, shop_listed),
    recipes=RECIPES,
)
