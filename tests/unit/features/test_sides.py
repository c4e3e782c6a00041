"""Is each field put on the side of the entity that it describes?"""

from __future__ import annotations

from datetime import UTC, datetime

from components.data.build_training_set.component import sides
from components.data.build_training_set.config import Config
from features.declaration import Window
from features.services.service import FeatureSnapshot, ServiceSnapshot, SourceSnapshot

VIEWS = {
    "buyer": ({"customer_id": "int64"}, "age"),
    "product": ({"product_id": "int64"}, "price"),
    "affinity": ({"customer_id": "int64", "product_id": "int64"}, "bought_before"),
    "shop": ({"shop_id": "int64"}, "size"),
}
SNAPSHOT = ServiceSnapshot(
    service="shop_ranker",
    features=tuple(FeatureSnapshot(name=name, view=view, dtype="float64") for view, (_, name) in VIEWS.items()),
    sources=tuple(
        SourceSnapshot(name=view, view=view, file=f"{view}.parquet", keys=keys, ttl_days=0)
        for view, (keys, _) in VIEWS.items()
    ),
    window=Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC)),
    rows={},
)
CONFIG = Config(
    feature_service="shop_ranker", feedback=("click",), user="customer_id", item="product_id", domain="placement",
    context=("device",),
)  # fmt: skip
SEEN = ["age", "bought_before", "customer_id", "device", "placement", "price", "product_id", "size"]


def test_views_of_one_entity_and_ids_have_a_side_and_the_request_has_none() -> None:
    assert sides(CONFIG, SNAPSHOT, SEEN) == {
        "age": "user", "customer_id": "user", "price": "item", "product_id": "item",
    }  # fmt: skip


def test_what_the_ranker_does_not_see_has_no_side() -> None:
    assert sides(CONFIG, SNAPSHOT, ["customer_id", "price", "device"]) == {"customer_id": "user", "price": "item"}
