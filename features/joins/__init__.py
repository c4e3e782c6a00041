"""Which value of a feature was known at a moment, and which is the newest? The offline and the online store."""

from __future__ import annotations

from features.ground.checked_types import rewrite_one_method

rewrite_one_method()  # every module here imports Feast
