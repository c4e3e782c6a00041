"""Does a search on a real Ray Tune find what the same trials find without Ray, survive a kill, and reach the training?

A cluster is dear to start, so one search answers for all tests: it is killed with its stage after some trials, goes on
two at once, and is compared with the same trials made one after the other in this process.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from components.data.training_set import read_schema
from components.platform.artifacts import TrainingSet
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.tune_ranker.config import Config
from components.train.tune_ranker.records import (
    TRIALS,
    Judge,
    Planned,
    Record,
    TrialJob,
    TuningJob,
    read_records,
    record_of,
    training_of,
)
from components.train.tune_ranker.search import Search
from components.train.tune_ranker.trial import perform
from components.train.tuned import Tuning, read_tuning
from features.declaration import Window
from tests.homes import ready
from tests.stages import start_stage
from tests.trained import publish
from tests.training_here import training_here
from tests.worlds import write_training_set

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 31, tzinfo=UTC))
SPACE: dict[str, Any] = {
    "learning_rate": {"log": [1e-4, 3e-2]},
    "ranker.hidden": [[8], [16, 8]],
    "tables.learning_rate": [1e-3, 1e30],
}
SEARCH: dict[str, Any] = {
    "ranker": {"name": "esmm", "embedding_width": 4, "hidden": [8]},
    "epochs": 2,
    "batch_size": 128,
    "space": SPACE,
    "trials": 8,
    "stop_early": {"keep": 0.5},
    "metric": "validation/log_loss/mean",
    "repeat_best": 1,
    "seed": 3,
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Settings:
    return ready(tmp_path_factory.mktemp("tuned") / "home", engines)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("world") / "set", rows=1200)


@pytest.fixture(scope="module")
def dataset(settings: Settings, world: Path) -> ArtifactRef:
    return publish(settings, TrainingSet, world)


def request(dataset: ArtifactRef, component: str = "tune_ranker", **config: Any) -> StageRequest:
    return StageRequest(
        component=component, config=config, inputs={"dataset": dataset}, window=WINDOW, pipeline="nightly",
        stage="tune", run_id="first",
    )  # fmt: skip


@dataclass
class Tuned:
    """A search that was killed and went on."""

    before: list[Record]
    """Trials that were over when the stage was killed."""
    result: StageResult
    folder: Path
    found: Tuning


@pytest.fixture(scope="module")
def tuned(settings: Settings, dataset: ArtifactRef) -> Tuned:
    stage = start_stage(settings, request(dataset, **SEARCH))
    deadline = time.monotonic() + 240
    while not (files := [*settings.home.glob(f"training/*/{TRIALS}")]) or len(read_records(files[0].parent)) < 3:
        assert stage.poll() is None
        assert time.monotonic() < deadline, "no three trials were made"
        time.sleep(0.02)
    tree = psutil.Process(stage.pid).children(recursive=True)
    os.kill(stage.pid, signal.SIGKILL)
    stage.wait(10)
    assert not psutil.wait_procs(tree, timeout=15)[1], "something of the search outlived its stage"
    before = read_records(files[0].parent)
    result = execute(request(dataset, **SEARCH, at_once=2), settings)
    folder = open_store(settings).fetch(result.outputs["tuned"].load())
    return Tuned(before, result, folder, read_tuning(folder))


@pytest.fixture(scope="module")
def quiet(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """The same trials, one after the other, without Ray; the test split is not even there."""
    roles = read_schema(world).declaration
    config = Config.model_validate(SEARCH)
    for split in ("raw/test.parquet", "encoded/test.arrow"):
        (world / split).unlink()
    job = TuningJob(
        name="quiet", dataset=world, directory=tmp_path_factory.mktemp("quiet"), config=config,
        judge_by=roles.judge_by, feedback=roles.feedback,
    )  # fmt: skip
    judge = Judge(metric="log_loss", tasks=roles.feedback)
    search = Search(config, judge)
    while isinstance(trial := search.next(), Planned):
        training = training_of(job, trial, search.block)
        TrialJob(trial=trial, training=training, judge=judge).write()
        perform(TrialJob(trial=trial, training=training, judge=judge), lambda epoch, best: None)
        search.over(record_of(trial, judge, job.folder(trial.number)))
    assert trial == "end"
    return search


def without_time(records: list[Record] | tuple[Record, ...]) -> list[Record]:
    return [record.model_copy(update={"seconds": 0.0}) for record in records]


def test_a_killed_search_goes_on_and_finds_what_a_quiet_one_finds_without_ray(tuned: Tuned, quiet: Search) -> None:
    assert 3 <= len(tuned.before) < 8
    table = pq.read_table(tuned.folder / "trials.parquet").to_pylist()
    expected = without_time(quiet.results)
    assert [row["number"] for row in table] == [record.number for record in expected]
    for row, record in zip(table, expected, strict=True):
        assert json.loads(row["values"]) == json.loads(json.dumps(record.values))
        assert (row["state"], row["value"], row["kept"]) == (record.state, record.value, record.kept)
        assert json.loads(row["epochs"]) == [report.model_dump() for report in record.epochs]
    known = {record.number: record for record in without_time(tuned.before)}
    assert all(known[record.number] == record for record in expected if record.number in known)


def test_some_trials_diverged_and_some_were_stopped_and_the_stage_went_well(tuned: Tuned) -> None:
    rows = pq.read_table(tuned.folder / "trials.parquet").to_pylist()
    failed = [row for row in rows if row["state"] == "failed"]
    assert tuned.found.failed == len(failed) > 0
    assert all("training diverged" in row["reason"] for row in failed), [row["reason"] for row in failed]
    assert [len(json.loads(row["epochs"])) for row in rows if row["state"] == "stopped"] == [1] * sum(
        row["state"] == "stopped" for row in rows
    )


def test_the_result_says_what_to_expect_and_what_is_luck(tuned: Tuned, quiet: Search) -> None:
    found = tuned.found
    assert found.value <= min(r.value for r in quiet.results if r.state == "done" and r.of is None and r.value) + 1e-12
    assert found.mean is not None and found.optimism == pytest.approx(found.mean - found.value)
    assert found.own == quiet.results[0].value
    assert any(str(found.winner) in note for note in tuned.result.notes)
    page = (tuned.folder / "tuned.html").read_text()
    assert "The test split was not read" in page and f"{found.mean:.4f}" in page


def test_each_trial_is_a_child_run_in_mlflow(tuned: Tuned, settings: Settings) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nightly")
    runs = client.search_runs([experiment.experiment_id])
    parent = next(run for run in runs if run.info.status == "FINISHED" and "rankmill.trial" not in run.data.tags)
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    rows = pq.read_table(tuned.folder / "trials.parquet").to_pylist()
    assert {int(run.data.tags["rankmill.trial"]) for run in below} == {row["number"] for row in rows}
    assert sum(run.info.status == "FAILED" for run in below) == tuned.found.failed
    best = next(run for run in below if run.data.tags["rankmill.trial"] == str(tuned.found.winner))
    assert float(best.data.params["learning_rate"]) == tuned.found.values["learning_rate"]
    assert "validation_like_log_loss" in best.data.metrics


def test_neither_how_many_run_at_once_nor_the_budget_makes_another_search(
    tuned: Tuned, settings: Settings, dataset: ArtifactRef
) -> None:
    again = execute(request(dataset, **SEARCH, at_once=1, budget="1h"), settings)
    assert again.cached and again.outputs == tuned.result.outputs
    assert [path.suffix for path in (settings.home / "training").iterdir()] == [".lock"]


def test_training_takes_the_values_and_says_whose_they_are(
    tuned: Tuned, settings: Settings, dataset: ArtifactRef
) -> None:
    knobs = {key: SEARCH[key] for key in ("ranker", "epochs", "batch_size", "seed")}
    asked = request(dataset, "train_ranker", **knobs)
    ref = tuned.result.outputs["tuned"]
    with training_here():
        result = execute(asked.model_copy(update={"inputs": {"dataset": dataset, "tuned": ref}}), settings)
        plain = execute(asked, settings)
    folder = open_store(settings).fetch(result.outputs["ranker"].load())
    origin = json.loads((folder / "origin.json").read_text())
    assert origin["values"] == json.loads(json.dumps(tuned.found.values)) and origin["tuned"] == ref.digest
    history = json.loads((folder / "history.json").read_text())
    rows = pq.read_table(tuned.folder / "trials.parquet").to_pylist()
    trial = next(row for row in rows if row["number"] == tuned.found.winner)
    tried = json.loads(trial["epochs"])
    assert len(history) == len(tried) == 2
    for epoch, other in zip(history, tried, strict=True):
        assert epoch["metrics"] == pytest.approx(other["metrics"], abs=1e-6)
    assert result.notes[0].startswith(f"from tuning, trial {tuned.found.winner}: learning_rate ")
    without = open_store(settings).fetch(plain.outputs["ranker"].load())
    assert not (without / "origin.json").exists()
    with pytest.raises(BadInputError, match="values are those of ranker 'esmm', and this stage trains 'dnn'"):
        other = request(dataset, "train_ranker", ranker={"name": "dnn"})
        execute(other.model_copy(update={"inputs": {"dataset": dataset, "tuned": ref}}), settings)
