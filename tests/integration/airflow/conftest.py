"""A world of its own for Airflow tests: a home, two small components, pipeline files, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import Command
from tests.homes import ready

ROOT = Path(__file__).resolve().parents[3]
RANKMILL = [sys.executable, "-c", "from pipelines.cli.main import main; main()"]


@dataclass(frozen=True)
class World:
    """Where a test's files lie."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "RANKMILL", "MLFLOW_T"))
        }
        return kept | {
            "RANKMILL_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder)]),
            "COLUMNS": "160",
        }

    def pipeline(self, name: str, stages: str, head: str = "") -> Path:
        file = self.folder / f"{name}.yaml"
        file.write_text(f"name: {name}\nwindow: {{days: 7, end: '2026-01-08'}}\n{head}\nstages:\n{stages}")
        return file

    def rankmill(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return self.start(*arguments).wait(timeout)

    def start(self, *arguments: str, **environment: str) -> Command:
        return Command(*arguments, env=self.environment | environment, cwd=self.folder)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> World:
    """A world that the tests of a run share."""
    return make_world(tmp_path_factory.mktemp("airflow"), engines)


def make_world(folder: Path, engines: Path) -> World:
    """Return a world with components offered by an installed package, as a third party would offer them."""
    ready(folder / "home", engines)
    info = folder / "probe-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[rankmill.components]\n"
        "write_words = tests.integration.airflow.probe:WRITE\n"
        "shout_words = tests.integration.airflow.probe:SHOUT\n"
        "ask_words = tests.integration.airflow.probe:ASK\n"
        "ring_words = tests.integration.airflow.probe:RING\n"
    )
    return World(folder)
