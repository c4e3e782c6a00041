"""Is the package in `docs/examples` one that can be installed: known by its entry point, and right by its own tests?"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.platform import sources
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.registration import installed, offered
from components.testing.ranker import example_batch, example_schema
from tests.installed import install

ROOT = Path(__file__).resolve().parents[4]
PACKAGE = ROOT / "docs" / "examples" / "uditsr"
BAGS = {"query": "genres", "past_queries": "recent_likes", "item_queries": "recent_items"}


def forget() -> None:
    installed.cache_clear()
    offered.cache_clear()
    sources.forget()
    for name in [name for name in sys.modules if name.partition(".")[0] == "uditsr"]:
        del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What its pyproject says, as an installer leaves it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))
    modules = {
        path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8")
        for package in project["tool"]["setuptools"]["packages"]
        for path in (PACKAGE / package).glob("*.py")
    }
    told = project["project"]
    offers = {group.replace(".", "__"): names for group, names in told["entry-points"].items()}
    install(tmp_path, told["name"], told["version"], modules, **offers)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget()
    yield
    forget()


@pytest.mark.usefixtures("site")
def test_a_pipeline_knows_it_by_its_entry_point_and_checks_its_keys() -> None:
    config = RankerConfig.of("uditsr", demand_weight=2, **BAGS)
    assert config.code.startswith("uditsr 0.1.0")
    outputs = build_ranker(config, example_schema("click"))(example_batch(5))
    assert outputs["click"].shape == (5,)
    with pytest.raises(ValidationError, match="demand_wieght"):
        RankerConfig.of("uditsr", demand_wieght=2)


def test_nobody_knows_it_who_has_not_installed_it() -> None:
    with pytest.raises(ValidationError, match="no ranker 'uditsr'"):
        RankerConfig.of("uditsr")


def test_its_own_tests_pass_in_its_own_folder() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=PACKAGE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
