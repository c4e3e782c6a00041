"""Definitions whose service reads a view under another key, which no stage follows; read, never run."""

from feast import Entity, FeatureService, FeatureView

profile = FeatureView(name="profile", entities=[Entity(name="shopper", join_keys=["user_id"])])
shop_ranker = FeatureService(name="shop_ranker", features=[profile.with_join_key_map({"user_id": "seller_id"})])
