"""Is a place whose effect is added encoded by its values, whatever else is encoded how?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from components.data.build_training_set.component import encodings
from components.data.build_training_set.config import Config
from features.declaration import Window
from features.services.service import ServiceSnapshot

DAY = Window(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 2, tzinfo=UTC))


def config(**more: Any) -> Config:
    position = {"column": "place", "effect": "additive"}
    return Config.model_validate({"feature_service": "s", "feedback": ["click"], "position": position} | more)


def test_it_has_a_value_per_place() -> None:
    snapshot = ServiceSnapshot(service="s", features=(), sources=(), window=DAY, rows={})
    assert encodings(config(), snapshot, {})["place"].kind == "vocabulary"


@pytest.mark.parametrize("key", ["drop", "encode"])
def test_it_is_neither_dropped_nor_encoded_otherwise(key: str) -> None:
    with pytest.raises(ValidationError, match=f"added by place: leave it out of {key}"):
        config(**{key: ["place"] if key == "drop" else {"place": {"kind": "bin"}}})
