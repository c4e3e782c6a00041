"""Does cleaning up leave what answers, what one may roll back to and what is new, and free the rest for good?"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.platform.artifacts import TrainingSet
from components.platform.contract import MLFLOW_RUN_ID
from components.platform.settings import Settings
from features.ground.remote_files import local_path
from registry.champion.ledger import Ledger
from registry.champion.promotion import Promotions, Request
from registry.versions.client import CHALLENGER, CHAMPION, Registry
from registry.versions.database import asking, sqlite_file
from registry.versions.forget import forget, old_runs
from registry.versions.tracking import tracked
from tests import commands
from tests.commands import ROOT
from tests.integration.registry.mill import Mill, put

pytestmark = pytest.mark.engine
MODEL = "tiny_ranker"
DAYS = 60
ASK = Request(actor="ada", reason="test")


@pytest.fixture
def old(registry: Registry, home: Settings, models: dict[str, Path]) -> None:
    """Five versions of long ago: the third is champion after the first two, the fourth its challenger."""
    for number in range(1, 6):
        put(registry, models["good"], f"digest-{number}")
    promotions = Promotions(registry, Ledger(home.ledger))
    for number in (1, 2, 3):
        promotions.promote(MODEL, number, ASK, decided_on=registry.alias(MODEL, CHAMPION))
    registry.set_alias(MODEL, CHALLENGER, 4)
    age(registry)


def age(registry: Registry) -> None:
    file = sqlite_file(registry.tracking_uri)
    assert file is not None
    ago = DAYS * 86_400_000
    with sqlite3.connect(file) as database:
        database.execute("update model_versions set creation_time = creation_time - ?", (ago,))
        database.execute("update runs set start_time = start_time - ?", (ago,))


def numbers(registry: Registry) -> list[int]:
    return [one.version.version for one in registry.versions(MODEL)]


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ((), [1, 2, 3, 4, 5]),
        (("--keep-versions", "1"), [1, 2, 3, 4, 5]),
        (("--keep-versions", "1", "--keep-champions", "1"), [2, 3, 4, 5]),
        (("--keep-versions", "1", "--keep-champions", "0"), [3, 4, 5]),
        (("--keep-versions", "5", "--keep-champions", "0"), [1, 2, 3, 4, 5]),
        (("--keep-versions", "1", "--keep-champions", "0", "--keep-days", str(DAYS + 1)), [1, 2, 3, 4, 5]),
    ],
)
def test_versions_stay_as_somebody_says(
    rankmill: Callable[..., str],
    registry: Registry,
    old: None,
    asked: tuple[str, ...],
    left: list[int],
) -> None:
    listed = rankmill("gc", *asked, "--records", "--dry-run")
    assert f"{5 - len(left)} registered versions, 0 runs of MLflow" in listed and numbers(registry) == [1, 2, 3, 4, 5]
    rankmill("gc", *asked)  # without --records the registry stays as it is
    assert numbers(registry) == [1, 2, 3, 4, 5]
    rankmill("gc", *asked, "--records")
    assert numbers(registry) == left


def test_a_profile_says_it_too_and_a_rollback_finds_what_is_left(
    rankmill: Callable[..., str],
    registry: Registry,
    old: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    profile = tmp_path / "lean.yaml"
    profile.write_text("name: lean\nkeep: {days: 7, versions: 1, champions: 1}\n")
    monkeypatch.setenv("RANKMILL_PROFILE", str(profile))
    for variable in ("RANKMILL_KEEP_DAYS", "RANKMILL_KEEP_VERSIONS", "RANKMILL_KEEP_CHAMPIONS"):
        monkeypatch.setenv(variable, "")  # put back afterwards
    places = {one.version.version: files_of(registry, one.version.model_uri) for one in registry.versions(MODEL)}
    assert all((folder / "model.onnx").is_file() for folder in places.values())
    assert "kept: 7 days, the newest 1 versions of each model, 1 former champions" in rankmill("gc", "--dry-run")
    assert "1 registered versions and 0 runs of MLflow deleted" in rankmill("gc", "--records")
    assert [number for number, folder in places.items() if folder.exists()] == [2, 3, 4, 5]
    assert "champion v2 (was v3), rolled back" in rankmill("rollback", MODEL)
    assert registry.download(MODEL, "champion", tmp_path / "back").is_dir()


def files_of(registry: Registry, model_uri: str) -> Path:
    with asking(registry.tracking_uri) as client:
        found = client.get_logged_model(model_uri.removeprefix("models:/")).artifact_location
    return Path(local_path(found) or "")


def run_of(home: Settings, key: str) -> str:
    with tracked(
        home.tracking_uri, home.mlflow_artifacts, name="toy", run_name="train", key=key, params={}, tags={}
    ) as run:
        (home.home / "note.txt").write_text(key)
        run.log_files(home.home / "note.txt")
    return run.run_id


def test_runs_of_long_ago_go_and_nobody_elses(registry: Registry, home: Settings) -> None:
    first, kept = run_of(home, "first"), run_of(home, "kept")
    with asking(home.tracking_uri) as client:
        experiment = client.get_run(first).info.experiment_id
        theirs, marked = (client.create_run(experiment).info.run_id for _ in range(2))
        client.set_terminated(theirs)
        client.delete_run(marked)
        files = Path(local_path(client.get_run(first).info.artifact_uri) or "")
    age(registry)
    new = run_of(home, "new")
    since = datetime.now(UTC) - timedelta(days=1)
    assert old_runs(home.tracking_uri, since, {kept}) == (first,)
    assert (files / "note.txt").is_file()
    assert forget(home.tracking_uri, home.mlflow_artifacts, (), (first,)) == (0, 1, True)
    assert not files.exists()
    with asking(home.tracking_uri) as client:
        assert {run.info.run_id for run in client.search_runs([experiment])} == {theirs, kept, new}
        client.restore_run(marked)  # what somebody else deleted can still be taken back


def test_a_version_that_got_an_alias_meanwhile_stays_with_its_run(registry: Registry, old: None) -> None:
    first, second = registry.versions(MODEL)[:2]
    registry.set_alias(MODEL, "shadow", 1)
    assert forget(registry.tracking_uri, registry.artifact_root, (first, second), ()) == (1, 0, True)
    assert numbers(registry) == [1, 3, 4, 5]


def test_files_outside_the_roots_stay(registry: Registry, home: Settings, tmp_path: Path) -> None:
    """Whoever may write to MLflow may say that a run's files lie in somebody's home."""
    run = run_of(home, "first")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "letter.txt").write_text("dear")
    file = sqlite_file(home.tracking_uri)
    assert file is not None
    with sqlite3.connect(file) as database:
        database.execute("update runs set artifact_uri = ?", (elsewhere.as_uri(),))
    time.sleep(0.01)
    assert forget(home.tracking_uri, home.mlflow_artifacts, (), (run,)) == (0, 1, True)
    assert (elsewhere / "letter.txt").read_text() == "dear"


def test_airflow_forgets_what_is_old(home: Settings) -> None:
    from pipelines.run.airflow_home import delete_before, initialise

    since = datetime.now(UTC) - timedelta(days=1)
    assert not delete_before(home, since)  # nobody has started it here
    initialise(home)
    logs = home.airflow_home / "logs" / "dag_id=toy"
    logs.mkdir(parents=True)
    with sqlite3.connect(home.airflow_home / "airflow.db") as database:
        for name, days in (("old", DAYS), ("new", 0)):
            moment = datetime.now(UTC) - timedelta(days=days)
            database.execute("insert into log (dttm, event, owner) values (?, ?, 'ada')", (str(moment), name))
            (logs / f"{name}.log").write_text("said")
            os.utime(logs / f"{name}.log", (moment.timestamp(), moment.timestamp()))
    assert delete_before(home, since)
    with sqlite3.connect(home.airflow_home / "airflow.db") as database:
        assert [event for (event,) in database.execute("select event from log where owner = 'ada'")] == ["new"]
        tables = [name for (name,) in database.execute("select name from sqlite_master where name like '_airflow_%'")]
    assert tables == [] and [path.name for path in logs.iterdir()] == ["new.log"]


def test_the_dag_of_the_docs_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "dag.py").write_text(f"{code}\nprint(dag.dag_id, [task.bash_command for task in dag.tasks])\n")
    done = commands.Command(
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}, main="dag:print"
    )
    said = done.wait()
    assert said.stdout.startswith("clean_up ['RANKMILL_PROFILE=prod rankmill gc --records']"), said


def test_a_run_that_the_store_tells_of_stays(
    rankmill: Callable[..., str],
    registry: Registry,
    home: Settings,
    training_set_dir: Path,
) -> None:
    """What trained a model that a run takes from the store may be long ago."""
    told, untold = run_of(home, "told"), run_of(home, "untold")
    age(registry)
    Mill(home, training_set_dir).publish(TrainingSet, training_set_dir, "set", **{MLFLOW_RUN_ID: told})
    assert "1 runs of MLflow" in rankmill("gc", "--records", "--dry-run")
    assert "0 registered versions and 1 runs of MLflow deleted" in rankmill("gc", "--records")
    with asking(home.tracking_uri) as client:
        assert client.get_run(told).info.lifecycle_stage == "active"
        with pytest.raises(Exception, match=untold):
            client.get_run(untold)
