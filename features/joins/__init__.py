"""Which value of a feature was known at a moment, and which is the newest? The offline and the online store."""

from __future__ import annotations

from features.ground.quick_feast import quicken_feast

quicken_feast()  # every module here imports Feast
