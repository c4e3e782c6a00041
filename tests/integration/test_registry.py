"""Does the registry keep its promises on a real MLflow: one database, no pickle, clear errors, gate, ledger, CLI?"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from components.artifacts import Artifact, EvaluationReport, OnnxModel, TrainingSet
from components.errors import (
    BadInputError,
    GateRefusedError,
    MissingError,
    ParityError,
    RetryableError,
)
from components.execute import StageRequest, StageResult, execute
from components.settings import Settings
from components.store import ArtifactRef, open_store
from components.training_set import read_raw
from features.declaration import Window
from registry.client import CHALLENGER, CHAMPION, Registry, experiment, initialise
from registry.contract import RegisteredVersion
from registry.ledger import Ledger
from registry.metrics import auc
from registry.promotion import Promotions, Request
from registry.report import ALL, Cell, Evaluation, Interval
from registry.served_model import ServedModel
from registry.verdict import Verdict
from tests.unit.registry.tiny_models import write_model

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]
WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))
ASK = Request(actor="ada", reason="test")


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One home whose MLflow database exists; initialising costs seconds, so tests share it or copy it."""
    settings = Settings.at(tmp_path_factory.mktemp("home"))
    initialise(settings.tracking_uri, settings.mlflow_artifacts)
    return settings


@pytest.fixture
def home(initialised: Settings, tmp_path: Path) -> Settings:
    """A home of its own with an empty, ready database."""
    shutil.copytree(initialised.home, tmp_path / "home")
    return Settings.at(tmp_path / "home")


@pytest.fixture
def registry(home: Settings) -> Registry:
    return Registry(home.tracking_uri, home.mlflow_artifacts)


def put(registry: Registry, directory: Path, digest: str, model: str = "tiny_ranker") -> RegisteredVersion:
    return registry.register(directory, model, digest=digest, ranker_digest="r", report_digest="e", tags={"a.tag": "1"})


@pytest.fixture(scope="module")
def models(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of known quality: good, much worse, as good as good, and one whose parity failed."""
    root = tmp_path_factory.mktemp("models")
    made = {"good": {}, "bad": {"quality": 0.1}, "similar": {"quality": 0.97, "seed": 5}, "broken": {"parity": False}}
    return {name: write_model(root / name, training_set_dir, **how) for name, how in made.items()}  # type: ignore[arg-type]


# --- the database -------------------------------------------------------------------------------------------


def test_four_first_users_at_once_make_one_whole_database(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "fresh home")
    code = "import sys; from registry.client import experiment\nprint(experiment(sys.argv[1], 'training', sys.argv[2]))"
    command = [sys.executable, "-c", code, settings.tracking_uri, settings.mlflow_artifacts]
    racing = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    answers = [process.communicate(timeout=200) for process in racing]
    assert [process.returncode for process in racing] == [0] * 4, answers
    assert len({out for out, _ in answers}) == 1
    assert experiment(settings.tracking_uri, "training", settings.mlflow_artifacts) == answers[0][0].strip()
    from mlflow import MlflowClient

    found = MlflowClient(settings.tracking_uri).get_experiment_by_name("training")
    assert found.artifact_location == f"{settings.mlflow_artifacts}/training"
    folder = settings.home / "mlflow"
    assert {path.name for path in folder.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "mlflow.db.ready", "artifacts"}


def test_initialising_again_does_nothing_and_imports_nothing(initialised: Settings) -> None:
    code = "import sys; from registry.client import initialise; initialise(sys.argv[1]); print('mlflow' in sys.modules)"
    command = [sys.executable, "-c", code, initialised.tracking_uri]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_killed_initialisation_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    settings = Settings.at(tmp_path)
    monkeypatch.setattr("registry.database._upgrade", killed)
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

    monkeypatch.setattr("registry.database._PATIENCE", 0.2)
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


# --- versions -----------------------------------------------------------------------------------------------


def test_a_version_comes_back_byte_for_byte_and_answers_the_same(
    registry: Registry, models: dict[str, Path], training_set_dir: Path, tmp_path: Path
) -> None:
    version = put(registry, models["good"], "d1")
    registry.set_alias("tiny_ranker", CHALLENGER, version.version)
    found = registry.download("tiny_ranker", CHALLENGER, tmp_path / "copy")
    for path in models["good"].iterdir():
        assert (found / path.name).read_bytes() == path.read_bytes()
    rows = read_raw(training_set_dir, "test")
    expected, got = (ServedModel.open(folder, "cpu").score(rows) for folder in (models["good"], found))
    assert all(np.array_equal(expected.tasks[task], got.tasks[task]) for task in expected.tasks)
    suffixes = {path.suffix for path in found.rglob("*") if path.is_file() and path.name != "MLmodel"}
    assert suffixes <= {".onnx", ".json", ".yaml", ".txt"}  # nothing that is loaded is a pickle
    assert b"pickle" not in (found / "MLmodel").read_bytes()


def test_mlflow_itself_can_load_a_version(registry: Registry, models: dict[str, Path], training_set_dir: Path) -> None:
    put(registry, models["good"], "d1")
    import mlflow

    rows = read_raw(training_set_dir, "test").slice(0, 5)
    model = ServedModel.open(models["good"], "cpu")
    [found] = registry.versions("tiny_ranker")
    before = os.environ.get("MLFLOW_TRACKING_URI")
    from registry.database import default_store

    with default_store(registry.tracking_uri):
        answers = mlflow.pyfunc.load_model(found.version.model_uri).predict(model.encoder.encode(rows))
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    np.testing.assert_allclose(answers["love"], model.score(rows).tasks["love"], atol=1e-6)


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


# --- the two components -------------------------------------------------------------------------------------


class Mill:
    """Publishes artifacts as earlier stages would, and runs the registry's two stages on them."""

    def __init__(self, settings: Settings, training_set: Path) -> None:
        self.settings = settings
        self.store = open_store(settings)
        self.training_set = training_set
        self.window = WINDOW
        self.dataset = self.publish(TrainingSet, training_set, "dataset")

    def publish(self, kind: type[Artifact], source: Path, name: str) -> ArtifactRef:
        staged = self.settings.home / "staged" / name
        shutil.copytree(source, staged / name)
        record = self.store.publish(
            staged, {name: kind(uri=str(staged / name))}, component="made_by_hand", component_version="1", key=name,
            config_digest="", inputs={}, explanation={}, seconds=0.0, notes=[], annotations={},
        )  # fmt: skip
        return record.outputs[name]

    def report(self, name: str, model: ArtifactRef, directory: Path) -> ArtifactRef:
        rows = read_raw(self.training_set, "test")
        scores = ServedModel.open(directory, "cpu").score(rows).tasks
        labels = {task: rows.column(task).to_numpy() for task in ("like", "love")}
        cells = tuple(
            Cell(task=task, domain=ALL, space="every impression", rows=rows.num_rows, positives=int(labels[task].sum()),
                 metrics={"auc": Interval(value=auc(labels[task], scores[task]))})
            for task in labels
        )  # fmt: skip
        evaluation = Evaluation(
            model_digest=model.digest, dataset_digest=self.dataset.digest, split="test", rows=rows.num_rows,
            window_start=None, window_end=None, confidence=0.95, resamples=0, provider="cpu", tasks=("like", "love"),
            domains=(), cells=cells, calibration=(),
        )  # fmt: skip
        folder = self.settings.home / "reports" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(evaluation.model_dump_json())
        (folder / "report.html").write_text("<!doctype html><title>report</title>")
        return self.publish(EvaluationReport, folder, f"{name}_report")

    def run(self, component: str, config: dict[str, Any], run_id: str, **inputs: ArtifactRef) -> StageResult:
        request = StageRequest(
            component=component, config=config, inputs=inputs, window=self.window, pipeline="nightly", stage=component,
            run_id=run_id,
        )  # fmt: skip
        return execute(request, self.settings)

    def register(self, name: str, directory: Path) -> ArtifactRef:
        if self.store.find("made_by_hand", name) is None:
            self.publish(OnnxModel, directory, name)
            self.report(name, self.ref(name), directory)
        result = self.run(
            "register_model", {"model": "tiny_ranker"}, name, model=self.ref(name), report=self.ref(f"{name}_report")
        )
        return result.outputs["model_version"]

    def ref(self, name: str) -> ArtifactRef:
        record = self.store.find("made_by_hand", name)
        assert record is not None
        return record.outputs[name]

    def promote(
        self, version: ArtifactRef, run_id: str, gate: dict[str, Any] | None = None, **more: bool
    ) -> StageResult:
        config = {"gate": {"resamples": 100} | (gate or {}), "provider": "cpu", **more}
        return self.run("promote_model", config, run_id, version=version, dataset=self.dataset)

    def actions(self) -> list[tuple[str, int]]:
        found = Ledger(self.settings.ledger).entries("tiny_ranker")
        return [(entry.action, entry.version) for entry in found if entry.action != "promoting"]


@pytest.fixture
def mill(home: Settings, training_set_dir: Path) -> Mill:
    return Mill(home, training_set_dir)


def test_a_week_of_nightly_runs(mill: Mill, registry: Registry, models: dict[str, Path]) -> None:
    """First champion, a retry, a refusal, a model that is as good, and the champion coming again."""
    first = mill.register("good", models["good"])
    assert registry.version("tiny_ranker", CHALLENGER).version == 1
    assert registry.alias("tiny_ranker", CHAMPION) is None
    done = mill.promote(first, "monday", {"floors": {"like": {"auc": 0.6}}})
    assert "champion v1 (was none)" in done.notes
    again = mill.promote(first, "monday, retried")
    assert again.notes == ["champion v1 unchanged"]

    bad = mill.register("bad", models["bad"])
    with pytest.raises(
        GateRefusedError, match=r"tiny_ranker v2 refused: l.* auc 0\.\d+ against 0\.\d+.*limit.*v1 stays"
    ) as no:
        mill.promote(bad, "tuesday")
    assert no.value.exit_code == 3
    kept = mill.settings.runs / "nightly" / "tuesday" / "promote_model"
    assert str(kept / "verdict.html") in str(no.value)
    refused = Verdict.model_validate_json((kept / "verdict.json").read_text())
    assert {j.domain for j in refused.judgements if j.metric == "auc"} == {ALL, "25_34", "35_plus", "under_25"}

    similar = mill.register("similar", models["similar"])
    lenient = {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2}
    done = mill.promote(similar, "wednesday", lenient)
    assert "champion v3 (was v1)" in done.notes
    folder = mill.store.fetch(done.outputs["promotion"].load())
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    assert (verdict.answer, verdict.challenger, verdict.champion) == ("promoted", 3, 1)
    assert verdict.rows == read_raw(mill.training_set, "test").num_rows
    assert "tiny_ranker v3" in (folder / "verdict.html").read_text()

    assert mill.register("good", models["good"]) != first  # the stage is not cached: it moves an alias
    assert len(registry.versions("tiny_ranker")) == 3
    assert mill.actions() == [("promoted", 1), ("unchanged", 1), ("refused", 2), ("promoted", 3)]
    entry = Ledger(mill.settings.ledger).entries("tiny_ranker")[-1]
    assert (entry.run_id, entry.actor, entry.previous) == ("wednesday", "pipeline:nightly", 1)
    assert entry.evidence is not None
    assert entry.evidence.judged > 6
    assert registry.versions("tiny_ranker")[1].tags["rankmill.verdict"] == "refused"


@pytest.mark.parametrize("allow", [False, True])
def test_a_backfill_of_a_past_day_leaves_the_champion(
    mill: Mill, registry: Registry, models: dict[str, Path], allow: bool
) -> None:
    lenient = {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2}
    mill.promote(mill.register("similar", models["similar"]), "nightly")
    mill.window = Window(start=WINDOW.start - timedelta(days=1), end=WINDOW.end - timedelta(days=1))
    past = mill.register("good", models["good"])
    done = mill.promote(past, "backfill", lenient, allow_older=allow)
    folder = mill.store.fetch(done.outputs["promotion"].load())
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    champion = registry.alias("tiny_ranker", CHAMPION)
    assert champion is not None
    if allow:  # the gate alone: the same models, and it promotes
        assert (champion.version, verdict.answer, mill.actions()[-1]) == (2, "promoted", ("promoted", 2))
        return
    assert (champion.version, verdict.answer, verdict.rows) == (1, "older", 0)
    said = "older than the champion's window, which ends 2024-02-01 (this one 2024-01-31): not promoted"
    assert verdict.reason == said and done.notes == [f"v2 is {said}; champion v1 stays"]
    assert "older" in (folder / "verdict.html").read_text()
    assert mill.actions() == [("promoted", 1), ("refused", 2)]
    assert registry.versions("tiny_ranker")[1].tags["rankmill.verdict"] == "older"

    # The next night is newer than both, so the gate is asked again.
    mill.window = Window(start=WINDOW.start + timedelta(days=1), end=WINDOW.end + timedelta(days=1))
    with pytest.raises(GateRefusedError, match=r"tiny_ranker v3 refused: l.* auc"):
        mill.promote(mill.register("bad", models["bad"]), "next night")


def test_the_registered_version_holds_card_report_and_figures(
    mill: Mill, registry: Registry, models: Any, tmp_path: Path
) -> None:
    folder = mill.store.fetch(mill.register("good", models["good"]).load())
    version = RegisteredVersion.model_validate_json((folder / "version.json").read_text())
    assert version == registry.version("tiny_ranker", 1)
    assert version.digest == mill.ref("good").digest
    found = registry.download("tiny_ranker", 1, tmp_path / "copy")
    assert {"card.md", "report.json", "report.html", "model.onnx", "encoder.json"} <= {
        path.name for path in found.iterdir()
    }
    assert (found / "card.md").read_text() == (folder / "card.md").read_text()
    tags = registry.versions("tiny_ranker")[0].tags
    assert tags["rankmill.dataset_digest"] == mill.dataset.digest
    evaluation = Evaluation.model_validate_json((found / "report.json").read_text())
    assert float(tags["rankmill.test.love.auc"]) == pytest.approx(
        evaluation.cell("love").metrics["auc"].value, abs=1e-4
    )


def test_a_floor_alone_can_refuse_the_first_model(mill: Mill, registry: Registry, models: dict[str, Path]) -> None:
    version = mill.register("good", models["good"])
    with pytest.raises(GateRefusedError, match=r"like in all rows: auc floor .* 0\.95; there is still no champion"):
        mill.promote(version, "monday", {"floors": {"like": {"auc": 0.95}}})
    assert registry.alias("tiny_ranker", CHAMPION) is None
    assert mill.actions() == [("refused", 1)]


def test_a_model_without_parity_is_not_registered(mill: Mill, models: dict[str, Path]) -> None:
    with pytest.raises(ParityError, match="parity of the model for tiny_ranker failed") as failure:
        mill.register("broken", models["broken"])
    assert failure.value.exit_code == 4
    assert Registry(mill.settings.tracking_uri).models() == ()


def test_a_report_about_another_model_is_noticed(mill: Mill, models: dict[str, Path]) -> None:
    mill.register("good", models["good"])
    mill.register("bad", models["bad"])
    with pytest.raises(BadInputError, match="is about model"):
        mill.run("register_model", {"model": "tiny_ranker"}, "x", model=mill.ref("good"), report=mill.ref("bad_report"))


def test_a_champion_that_needs_a_missing_feature_refuses_the_challenger(
    mill: Mill, models: Any, tmp_path: Path
) -> None:
    mill.promote(mill.register("good", models["good"]), "monday")
    import pyarrow.parquet as pq

    poorer = Path(shutil.copytree(mill.training_set, tmp_path / "poorer"))
    path = poorer / "raw" / "test.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["popularity"]), path)
    slim = Path(shutil.copytree(models["bad"], tmp_path / "slim"))
    _drop_input(slim, "popularity")
    challenger = mill.register("slim", slim)
    mill.dataset = mill.publish(TrainingSet, poorer, "poorer")
    with pytest.raises(
        GateRefusedError, match=r"champion tiny_ranker v1 cannot score the rows.*'popularity'.*v1 stays"
    ):
        mill.promote(challenger, "tuesday")
    assert mill.actions() == [("promoted", 1), ("refused", 2)]


def _drop_input(model: Path, name: str) -> None:
    """Remove an input that the tiny graph takes and never uses, everywhere it is declared."""
    import onnx

    graph = onnx.load(str(model / "model.onnx"))
    kept = [value for value in graph.graph.input if value.name != name]
    del graph.graph.input[:]
    graph.graph.input.extend(kept)
    onnx.save(graph, str(model / "model.onnx"))
    for file in ("contract.json", "schema.json", "encoder.json"):
        content = json.loads((model / file).read_text())
        holder = content.get("schema", content)
        key = "fitted" if file == "encoder.json" else "fields"
        holder[key] = [field for field in holder[key] if field["name"] != name]
        (model / file).write_text(json.dumps(content))


# --- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def rankmill(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Run one command in a home of its own and return what it printed; errors of Rankmill pass through."""
    from pipelines.cli_models import add_commands

    app = typer.Typer()
    add_commands(app)
    monkeypatch.setenv("RANKMILL_HOME", str(home.home))
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*words: str, answer: str = "") -> str:
        result = CliRunner().invoke(app, list(words), input=answer)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    yield run


def test_the_commands_tell_one_story(rankmill: Callable[..., str], registry: Registry, models: dict[str, Path]) -> None:
    assert "no model is registered yet" in rankmill("models")
    for number, name in enumerate(("good", "similar", "bad"), start=1):
        put(registry, models[name], f"digest-{number}")
    assert "nothing has happened" in rankmill("history", "tiny_ranker")
    assert "champion v1 (was none)" in rankmill("promote", "tiny_ranker", "1", "--yes")
    assert "Aborted" in rankmill("promote", "tiny_ranker", "2", answer="n\n")
    assert "champion v2 (was v1)" in rankmill("promote", "tiny_ranker", "2", "--reason", "demo", answer="y\n")
    assert "champion v3 (was v2)" in rankmill("promote", "tiny_ranker", "3", "-y")
    assert "nothing changed" in rankmill("promote", "tiny_ranker", "3")
    [row] = [line for line in rankmill("models").splitlines() if "champion" in line]
    assert " v3 " in row
    assert "champion v2 (was v3), rolled back" in rankmill("rollback", "tiny_ranker")
    assert "champion v1 (was v2), rolled back" in rankmill("rollback", "tiny_ranker", "--to", "1", "--reason", "worse")
    assert registry.version("tiny_ranker", CHAMPION).version == 1
    shown = rankmill("history", "tiny_ranker")
    assert shown.count("rolled back") == 2
    assert "promoting" not in shown
    assert "gate overridden: demo" in shown
    entries = json.loads(rankmill("history", "tiny_ranker", "--json"))
    assert entries[-1]["action"] == "rolled back"
    assert "UTC: v1" in rankmill("history", "tiny_ranker", "--at", "2100-01-01")
    assert "UTC: none" in rankmill("history", "tiny_ranker", "--at", "2020-01-01")


def test_the_commands_answer_nonsense_in_one_sentence(
    rankmill: Callable[..., str], registry: Registry, home: Settings, models: dict[str, Path]
) -> None:
    put(registry, models["broken"], "d1")
    for words, error, sentence in (
        (("history", "nobody"), MissingError, "no registered model 'nobody'"),
        (("promote", "tiny_ranker", "9", "-y"), MissingError, "no version 9"),
        (("promote", "tiny_ranker", "1", "-y"), BadInputError, "parity of tiny_ranker v1 failed"),
        (("rollback", "tiny_ranker"), MissingError, "no earlier champion than none"),
    ):
        with pytest.raises(error, match=sentence) as failure:
            rankmill(*words)
        assert "\n" not in str(failure.value)
    (home.home / "mlflow" / "mlflow.db").unlink()
    with pytest.raises(MissingError, match="rankmill run"):
        rankmill("models")
