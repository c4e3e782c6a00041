"""Where do the registry's tests find a ready MLflow database, models of known quality and the two stages?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.platform.settings import Settings
from registry.versions.client import Registry
from tests.homes import ready
from tests.integration.registry.mill import Mill
from tests.unit.registry.tiny_models import write_model


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Settings:
    """One home whose MLflow database exists, which tests share."""
    return ready(tmp_path_factory.mktemp("world") / "home", engines)


@pytest.fixture
def home(engines: Path, tmp_path: Path) -> Settings:
    """A home of its own with an empty, ready database."""
    return ready(tmp_path / "home", engines)


@pytest.fixture
def registry(home: Settings) -> Registry:
    return Registry(home.tracking_uri, home.mlflow_artifacts)


@pytest.fixture(scope="module")
def models(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of known quality: good, much worse, as good as good, and one whose parity failed."""
    root = tmp_path_factory.mktemp("models")
    made = {"good": {}, "bad": {"quality": 0.1}, "similar": {"quality": 0.97, "seed": 5}, "broken": {"parity": False}}
    return {name: write_model(root / name, training_set_dir, **how) for name, how in made.items()}  # type: ignore[arg-type]


@pytest.fixture
def mill(home: Settings, training_set_dir: Path) -> Mill:
    return Mill(home, training_set_dir)


@pytest.fixture
def rankmill(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Run one command in a home of its own and return what it printed; errors of Rankmill pass through."""
    from pipelines.cli.main import app

    monkeypatch.setenv("RANKMILL_HOME", str(home.home))
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*words: str, answer: str = "") -> str:
        result = CliRunner().invoke(app, list(words), input=answer)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    yield run
