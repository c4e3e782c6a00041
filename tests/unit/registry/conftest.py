"""Which worlds do the registry's tests share? A data set and the models that were fitted to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.registry.tiny_models import write_model


@pytest.fixture(scope="session")
def good_model(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a model that knows the log-odds of users and items; read-only."""
    return write_model(tmp_path_factory.mktemp("good") / "model", training_set_dir)
