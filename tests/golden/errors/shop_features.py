"""Feast definitions that golden pipelines name; read, never run."""

from feast import FeatureService

shop_ranker = FeatureService(name="shop_ranker", features=[])
