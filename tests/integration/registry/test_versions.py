"""Does a registered version come back byte for byte, or not at all?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.data.training_set import read_raw
from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from registry.champion.ledger import Ledger
from registry.champion.promotion import Promotions, Request
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel
from registry.versions.client import CHALLENGER, Registry
from registry.versions.tracking import experiment
from tests.integration.registry.mill import put

pytestmark = pytest.mark.engine
ASK = Request(actor="ada", reason="test")


def test_a_version_comes_back_byte_for_byte_and_answers_the_same(
    registry: Registry, models: dict[str, Path], training_set_dir: Path, tmp_path: Path
) -> None:
    version = put(registry, models["good"], "d1")
    registry.set_alias("tiny_ranker", CHALLENGER, version.version)
    found = registry.download("tiny_ranker", CHALLENGER, tmp_path / "copy")
    for path in models["good"].iterdir():
        assert (found / path.name).read_bytes() == path.read_bytes()
    rows = read_raw(training_set_dir, "test")
    expected, got = (answer(ServedModel.open(folder, "cpu"), rows) for folder in (models["good"], found))
    assert all(np.array_equal(expected.tasks[task], got.tasks[task]) for task in expected.tasks)
    suffixes = {path.suffix for path in found.rglob("*") if path.is_file() and path.name != "MLmodel"}
    assert suffixes <= {".arrow", ".onnx", ".json", ".yaml", ".txt"}  # nothing that is loaded is a pickle
    assert b"pickle" not in (found / "MLmodel").read_bytes()


def test_mlflow_itself_can_load_a_version(registry: Registry, models: dict[str, Path], training_set_dir: Path) -> None:
    put(registry, models["good"], "d1")
    import mlflow

    rows = read_raw(training_set_dir, "test").slice(0, 5)
    model = ServedModel.open(models["good"], "cpu")
    [found] = registry.versions("tiny_ranker")
    before = os.environ.get("MLFLOW_TRACKING_URI")
    from registry.versions.database import default_store

    with default_store(registry.tracking_uri):
        answers = mlflow.pyfunc.load_model(found.version.model_uri).predict(model.encoder.encode(rows))
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    np.testing.assert_allclose(answers["love"], answer(model, rows).tasks["love"], atol=1e-6)


def test_the_same_content_is_registered_once(registry: Registry, models: dict[str, Path]) -> None:
    first = put(registry, models["good"], "d1")
    assert put(registry, models["good"], "d1") == first
    assert put(registry, models["bad"], "d2").version == 2
    assert put(registry, models["good"], "d1", model="other_ranker").version == 1
    assert registry.models() == ("other_ranker", "tiny_ranker")
    assert [(v.version.digest, v.tags["a.tag"]) for v in registry.versions("tiny_ranker")] == [("d1", "1"), ("d2", "1")]


def test_a_version_is_linked_to_its_training_run(registry: Registry, models: dict[str, Path]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri)
    run = client.create_run(experiment(registry.tracking_uri, "training", registry.artifact_root))
    common = {"digest": "d1", "ranker_digest": "r", "report_digest": "e"}
    registry.register(models["good"], "tiny_ranker", run_id=run.info.run_id, **common)
    registry.register(models["bad"], "tiny_ranker", run_id="0" * 32, **(common | {"digest": "d2"}))
    assert [v.run_id for v in registry.versions("tiny_ranker")] == [run.info.run_id, ""]
    [output] = client.get_run(run.info.run_id).outputs.model_outputs
    assert registry.version("tiny_ranker", 1).model_uri == f"models:/{output.model_id}"


def test_what_does_not_exist_is_answered_with_what_does(registry: Registry, models: dict[str, Path]) -> None:
    put(registry, models["good"], "d1")
    registry.set_alias("tiny_ranker", CHALLENGER, 1)
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: registry.version("tiny_ranker", "champion"), r"no alias 'champion' \(aliases: challenger → v1\)"),
        (lambda: registry.version("tiny_ranker", 7), r"no version 7 \(versions: v1\)"),
        (lambda: registry.set_alias("tiny_ranker", "champion", 7), r"no version 7"),
        (lambda: registry.versions("it's"), r"no registered model \"it's\" \(models: tiny_ranker\)"),
        (lambda: registry.download("nobody", 1, Path("/nowhere")), "no registered model 'nobody'"),
    ]
    for act, sentence in cases:
        with pytest.raises(MissingError, match=sentence):
            act()
    assert registry.alias("tiny_ranker", "champion") is None
    assert registry.alias("nobody", "champion") is None


@pytest.mark.parametrize("alias", ["Champion", "v1", "latest", "1", "two words", "champion_2", ""])
def test_aliases_are_lower_case_words(registry: Registry, alias: str) -> None:
    with pytest.raises(BadInputError, match="lower-case words"):
        registry.set_alias("tiny_ranker", alias, 1)


def _files(home: Settings, name: str) -> Path:
    [path] = (home.home / "mlflow" / "artifacts").rglob(name)
    return path


def test_files_that_were_changed_or_removed_in_the_store_do_not_go_live(
    registry: Registry, home: Settings, models: dict[str, Path], tmp_path: Path
) -> None:
    promotions = Promotions(registry, Ledger(home.ledger))
    put(registry, models["broken"], "d1")
    with pytest.raises(BadInputError, match="parity of tiny_ranker v1 failed"):
        promotions.promote("tiny_ranker", 1, ASK, decided_on=None)
    report = _files(home, "parity.json")
    report.write_text(report.read_text().replace('"passed":false', '"passed":true'))
    with pytest.raises(BadInputError, match=r"parity\.json of tiny_ranker v1 was changed"):
        promotions.promote("tiny_ranker", 1, ASK, decided_on=None)
    shutil.rmtree(report.parent)
    with pytest.raises(MissingError, match="files of tiny_ranker v1"):
        promotions.promote("tiny_ranker", 1, ASK, decided_on=None)
    assert promotions.champion("tiny_ranker") is None
    assert promotions.ledger.entries("tiny_ranker") == ()


@pytest.mark.parametrize("name", ["churn-model", "Churn", "bob's model", 'say "hi"', "a.b", "[bold]x", "näme"])
def test_models_of_others_break_no_list_and_are_not_ours(
    registry: Registry, home: Settings, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from mlflow import MlflowClient
    from typer.testing import CliRunner

    from pipelines.cli.main import app
    from pipelines.record.references import references

    put(registry, models["good"], "d1")
    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    client.create_registered_model(name)
    client.create_model_version(name, "s3://elsewhere/model", tags={"rankmill.memory": "no JSON"})
    client.set_registered_model_alias(name, "Champion", "1")
    [theirs] = registry.versions(name)
    assert (theirs.version.model, theirs.version.digest, theirs.aliases) == (name, "", ("Champion",))
    references(home, registry.versions(name))
    monkeypatch.setenv("RANKMILL_HOME", str(home.home))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exception is None or isinstance(result.exception, SystemExit | BadInputError), result.exception
        return f"{result.output}{result.exception or ''}"

    listing = said("models")
    assert name in listing and "not ours" in listing and "tiny_ranker" in listing
    assert "not ours" in said("history", name)
    assert "not registered by Rankmill" in said("promote", name, "1", "-y")
    assert "has no version that Rankmill registered" in said("rollback", name)
    assert not (home.home / "ledger").exists()


def test_an_alias_of_a_deleted_version_is_told_and_repaired(registry: Registry, models: dict[str, Path]) -> None:
    """Older MLflow servers keep the alias when its version goes."""
    put(registry, models["good"], "d1")
    put(registry, models["bad"], "d2")
    for alias in ("champion", "shadow"):
        _dangle(registry, alias, 9)
    assert registry.alias("tiny_ranker", "champion") is None
    with pytest.raises(
        MissingError, match=r"points at v9, which was deleted: move it, .*rollback tiny_ranker.*--repair"
    ):
        registry.version("tiny_ranker", "champion")
    assert registry.dangling("tiny_ranker") == {"champion": 9, "shadow": 9}
    registry.set_alias("tiny_ranker", "champion", 1)
    assert registry.remove_dangling("tiny_ranker") == {"shadow": 9}
    assert registry.dangling("tiny_ranker") == {}
    assert registry.alias("tiny_ranker", "champion") == registry.version("tiny_ranker", 1)


def test_a_repair_of_all_leaves_models_of_others_alone(
    registry: Registry, home: Settings, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from typer.testing import CliRunner

    from pipelines.cli.main import app

    put(registry, models["good"], "d1")
    MlflowClient(registry.tracking_uri, registry.tracking_uri).create_registered_model("theirs")
    for model in ("tiny_ranker", "theirs"):
        _dangle(registry, "shadow", 9, model)
    monkeypatch.setenv("RANKMILL_HOME", str(home.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said = CliRunner().invoke(app, ["models", "--repair"]).output
    assert "tiny_ranker: alias shadow pointed at v9, which was deleted, and is removed" in said
    assert (registry.dangling("tiny_ranker"), registry.dangling("theirs")) == ({}, {"shadow": 9})
    CliRunner().invoke(app, ["models", "theirs", "--repair"])
    assert registry.dangling("theirs") == {}


def _dangle(registry: Registry, alias: str, number: int, model: str = "tiny_ranker") -> None:
    import sqlite3
    from contextlib import closing

    from registry.versions.database import sqlite_file

    file = sqlite_file(registry.tracking_uri)
    assert file is not None
    with closing(sqlite3.connect(file)) as database, database:
        columns = [row[1] for row in database.execute("pragma table_info(registered_model_aliases)")]
        known = {"name": model, "alias": alias, "version": number, "workspace": "default"}
        values = [known[column] for column in columns]
        database.execute(f"insert into registered_model_aliases values ({', '.join('?' * len(values))})", values)


def test_a_deleted_training_run_is_left_out(registry: Registry, models: dict[str, Path]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri)
    run = client.create_run(experiment(registry.tracking_uri, "training", registry.artifact_root))
    client.delete_run(run.info.run_id)
    common = {"digest": "d1", "ranker_digest": "r", "report_digest": "e"}
    registry.register(models["good"], "tiny_ranker", run_id=run.info.run_id, **common)
    assert [v.run_id for v in registry.versions("tiny_ranker")] == [""]


@pytest.mark.parametrize("name", ["my home", "hömé", "c#x", "p%20x", "q?x"])
def test_the_database_lies_in_the_folder_of_its_name(tmp_path: Path, name: str) -> None:
    from mlflow import MlflowClient

    from registry.versions.database import initialise

    settings = Settings.at(tmp_path / name)
    initialise(settings.tracking_uri, settings.mlflow_artifacts)
    where = experiment(settings.tracking_uri, "training", settings.mlflow_artifacts)
    client = MlflowClient(settings.tracking_uri)
    (tmp_path / "note.txt").write_text("x")
    client.log_artifact(client.create_run(where).info.run_id, str(tmp_path / "note.txt"))
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("mlflow.db")] == [name]
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("note.txt")} == {name, "note.txt"}
