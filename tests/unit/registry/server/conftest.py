"""What do the tests of a service share? Two versions of a shop's model, where its registry points, and its store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.registry.server.shop import Registry, Shelves, served, stocked


@pytest.fixture
def folders(model_of: Callable[[str], Path], tmp_path: Path) -> dict[int, Path]:
    """Two versions of a shop's model."""
    made = {1: tmp_path / "v1", 2: tmp_path / "v2"}
    shutil.copytree(model_of("lr"), made[1])
    shutil.copytree(model_of("esmm"), made[2])
    return made


@pytest.fixture
def registry(folders: dict[int, Path]) -> Registry:
    return Registry(folders, 1, served())


@pytest.fixture
def shelves() -> Shelves:
    return stocked()
