"""A shop whose every store is a server: champion in MLflow, features in Redis, what is served in the bucket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from components.platform.settings import Settings
from tests.served_shop import Served, crown, materialise, question, write_features
from tests.services.conftest import FEATURE_STORE
from tests.services.servers import BUCKET, HOST, Servers


@dataclass(frozen=True)
class ProductionShop:
    """Where it is, and what a shell must hold."""

    settings: Settings
    environment: dict[str, str]
    folder: Path
    model_of: Callable[[str], Path] = field(repr=False)

    def crown(self, name: str) -> int:
        """Make the ranker of a name champion, and return its version."""
        return crown(self.settings, self.model_of(name), self.folder)


def production_shop(servers: Servers, redis: int, model_of: Callable[[str], Path]) -> ProductionShop:
    """Return a shop with a champion and features.

    Args:
        servers: the production set.
        redis: port at which Redis is reached.
        model_of: gives the folder of a ranker.
    """
    folder = servers.folder / f"shop-{redis}"
    settings = replace(
        Settings.at(folder / "home"), tracking_uri=servers.mlflow_url, artifacts=f"s3://{BUCKET}/shop-{redis}"
    )
    environment = servers.s3_environment() | {
        "RANKMILL_FEATURE_STORE": str(FEATURE_STORE),
        # A database of its own: other tests count what lies in the first.
        "RANKMILL_FEAST_REDIS": f"{HOST}:{redis},password={servers.password},db=1",
        "RANKMILL_FEAST_REGISTRY": servers.postgres_url("feast"),
    }
    folder.mkdir()
    shop = ProductionShop(settings, environment, folder, model_of)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        shop.crown("lr")
        materialise(settings, write_features(folder / "features", 1))
    return shop


def degraded(served: Served) -> list[str]:
    """Return what an answer lacks; it must have come."""
    answered = served.ask()
    assert answered.status_code == 200, answered.text
    found: list[str] = answered.json()["parameters"]["degraded"]
    return found


def outputs(served: Served, **asked: Any) -> dict[str, list[float]]:
    """Return the answers to a question by name."""
    answered = served.ask(question(**asked))
    assert answered.status_code == 200, answered.text
    return {each["name"]: each["data"] for each in answered.json()["outputs"]}
