"""Is there one whole MLflow database, whoever comes first, and is nobody else's file taken for it?"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.platform.errors import (
    BadInputError,
    MissingError,
    RetryableError,
)
from components.platform.settings import Settings
from registry.versions.client import CHALLENGER, CHAMPION, Registry
from registry.versions.database import initialise
from registry.versions.tracking import experiment
from tests.commands import Command
from tests.integration.registry.mill import put

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[3]


def first_user() -> None:
    """What each of the first users does in a process of its own."""
    sys.stdout.write(experiment(sys.argv[1], "training", sys.argv[2]))


def test_four_first_users_at_once_make_one_whole_database(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "fresh home")
    where = settings.tracking_uri, settings.mlflow_artifacts
    racing = [Command(*where, env=os.environ, main=f"{__name__}:{first_user.__name__}") for _ in range(4)]
    answers = [user.wait() for user in racing]
    assert [user.returncode for user in answers] == [0] * 4, answers
    assert len({user.stdout for user in answers}) == 1
    assert experiment(settings.tracking_uri, "training", settings.mlflow_artifacts) == answers[0].stdout
    from mlflow import MlflowClient

    found = MlflowClient(settings.tracking_uri).get_experiment_by_name("training")
    assert found.artifact_location == f"{settings.mlflow_artifacts}/training"
    folder = settings.home / "mlflow"
    assert {path.name for path in folder.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "mlflow.db.ready", "artifacts"}


def test_initialising_again_does_nothing_and_imports_nothing(initialised: Settings) -> None:
    code = (
        "import sys; from registry.versions.database import initialise\n"
        "initialise(sys.argv[1]); print('mlflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, initialised.tracking_uri]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_killed_initialisation_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    settings = Settings.at(tmp_path)
    monkeypatch.setattr("registry.versions.database._upgrade", killed)
    with pytest.raises(KeyboardInterrupt):
        initialise(settings.tracking_uri)
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()
    with pytest.raises(MissingError, match="no MLflow database"):
        Registry(settings.tracking_uri).models()


@pytest.mark.parametrize("uri", ["sqlite:///relative.db", "sqlite://", "/a/folder", "file:///a/folder"])
def test_stores_that_mlflow_retired_are_refused(uri: str) -> None:
    with pytest.raises(BadInputError, match="sqlite:////absolute"):
        initialise(uri)


def test_reading_where_nothing_was_ever_run_says_what_to_run(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    with pytest.raises(MissingError, match="rankmill run"):
        Registry(settings.tracking_uri).version("tiny_ranker", CHAMPION)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"precious notes " * 100)
    for act in (initialise, lambda uri: Registry(uri).models()):
        with pytest.raises(BadInputError, match="not an SQLite database"):
            act(f"sqlite:///{path}")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table mine (a)")
    with pytest.raises(BadInputError, match="not MLflow's"):
        initialise(f"sqlite:///{tmp_path / 'other.db'}")
    assert path.read_bytes() == b"precious notes " * 100


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let SQLite wait 0.2 seconds for a lock where MLflow asks for 20."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def shorten(_: object, __: object, statement: str, parameters: object, *___: object) -> tuple[str, object]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 200"), parameters

    monkeypatch.setattr("registry.versions.database._PATIENCE", 0.2)
    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorten)


@pytest.mark.usefixtures("impatient")
def test_a_locked_database_is_worth_a_retry_and_loses_nothing(registry: Registry, home: Settings, models: Any) -> None:
    put(registry, models["good"], "d1")
    registry.set_alias("tiny_ranker", CHAMPION, 1)
    holder = sqlite3.connect(home.home / "mlflow" / "mlflow.db")

    def fails(act: Callable[[], object]) -> None:
        with pytest.raises(RetryableError, match="locked by another program") as failure:
            act()
        assert failure.value.exit_code == 75
        assert "\n" not in str(failure.value)

    try:
        holder.execute("begin immediate")  # others may read
        assert registry.models() == ("tiny_ranker",)
        fails(lambda: registry.set_alias("tiny_ranker", CHALLENGER, 1))
        fails(lambda: put(registry, models["bad"], "d2"))
        holder.rollback()
        holder.execute("begin exclusive")
        fails(registry.models)
        fails(lambda: put(registry, models["bad"], "d2"))
    finally:
        holder.close()
    assert [(v.version.version, v.aliases) for v in registry.versions("tiny_ranker")] == [(1, (CHAMPION,))]
    assert put(registry, models["bad"], "d2").version == 2
