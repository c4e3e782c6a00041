"""Does every catalogued component keep the contract? New components are picked up by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.platform.catalog import BUILTIN, catalog
from components.testing.component import ENGINES, HEAVY, ComponentDeclaration, imported_by

ROOT = Path(__file__).resolve().parents[2]


class TestEveryComponent(ComponentDeclaration):
    @pytest.fixture(autouse=True, params=BUILTIN)
    def _chosen(self, request: pytest.FixtureRequest) -> None:
        name = request.param
        self.component, self.readme = catalog()[name], next((ROOT / "components").glob(f"*/{name}/README.md"))  # type: ignore[misc]  # per test


def test_the_folders_and_the_catalogue_agree() -> None:
    found = {path.parent.name for path in (ROOT / "components").glob("*/*/component.py")}
    assert found == set(BUILTIN)


def test_reading_the_whole_catalogue_imports_no_engine() -> None:
    loaded = imported_by([spec.config.__module__ for spec in catalog().values()] + ["components.platform.catalog"])
    assert loaded & HEAVY == set()


def test_importing_a_component_module_imports_no_training_or_tracking_engine() -> None:
    """Heavy imports belong inside `run`, so that a stage pays only for the engines it uses."""
    assert imported_by(spec.entrypoint.partition(":")[0] for spec in catalog().values()) & ENGINES == set()
