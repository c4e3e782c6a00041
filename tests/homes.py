"""Where does a test find a home with databases? Migrating Airflow's and MLflow's takes ten seconds, a copy none."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from components.platform.settings import Settings
from tests.once import once


def prepared(scratch: pytest.TempPathFactory) -> Path:
    """Return the home that the test run prepared, made by whichever of its processes asks first."""

    def make(made: Path) -> None:
        from pipelines.run.airflow_home import initialise

        initialise(Settings.at(made))

    return once(scratch, "home", make)


def ready(home: Path, source: Path) -> Settings:
    """Copy the empty databases of a prepared home; secrets, passwords and settings files are the new home's own.

    Args:
        home: folder that does not hold any yet.
        source: what `prepared` gave.
    """
    settings = Settings.at(home)
    for name in ("airflow", "mlflow"):
        (home / name).mkdir(parents=True)
    for path in (source / "airflow").glob("template-*.db"):
        shutil.copyfile(path, home / "airflow" / path.name)
    database = home / "mlflow" / "mlflow.db"
    for suffix in ("", ".ready"):
        shutil.copyfile(source / "mlflow" / f"mlflow.db{suffix}", f"{database}{suffix}")
    with closing(sqlite3.connect(database)) as connection, connection:
        # MLflow writes down where files of its default experiment go.
        connection.execute("UPDATE experiments SET artifact_location = ?", [f"{settings.mlflow_artifacts}/0"])
    return settings


def data_places() -> list[Path]:
    """Return the data folders that may hold what is not the project's to ship."""
    shared = os.environ.get("RANKMILL_SHARED_DATA")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return [Settings.from_environment().data, *([Path(shared)] if shared else []), beside]


def data_folder(folder: str) -> Path | None:
    """Return the data folder that holds a data set which is not the project's to ship, or None."""
    return next((place for place in data_places() if (place / folder).is_dir()), None)


def shared_data(folder: str) -> Path:
    """Return the folder of `data_folder`, or skip the test, loudly."""
    if found := data_folder(folder):
        return found
    pytest.skip(f"SKIPPED FOR WANT OF DATA: no {folder}/ in {', '.join(map(str, data_places()))}; set RANKMILL_DATA")
