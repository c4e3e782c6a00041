"""A shop that can be served: a champion and an online store, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components.platform.settings import Settings
from tests.homes import ready
from tests.served_shop import crown, materialise, write_features


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, engines: Path, model_of: Callable[[str], Path]) -> Settings:
    """A home with a champion and its features of generation 1."""
    folder = tmp_path_factory.mktemp("shop")
    settings = ready(folder / "home", engines)
    crown(settings, model_of("lr"), folder)
    materialise(settings, write_features(folder / "features", 1))
    return settings
