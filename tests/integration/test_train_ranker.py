"""Does the train stage train on real Ray workers, and does nothing of it survive its end, whatever ends it?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.platform.artifacts import TrainingSet
from components.platform.errors import BadInputError, RetryableError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.process_tree import ProcessTree
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.ranker_files import load_ranker
from components.train.train_ranker.config import Config, EpochReport
from components.train.train_ranker.job import JOB, PROGRESS, TRAININGS, TrainingJob
from features.declaration import Window
from tests.homes import ready
from tests.stages import start_stage
from tests.trained import publish

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 31, tzinfo=UTC))
SMALL = {"name": "esmm", "embedding_width": 8, "hidden": [32, 16]}
LONG = {"ranker": SMALL, "epochs": 12, "patience": 12, "batch_size": 256, "workers": 2}
"""Long enough to be caught in the middle, short enough to be run to the end."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Settings:
    return ready(tmp_path_factory.mktemp("world") / "home", engines)


@pytest.fixture(scope="module")
def dataset(settings: Settings, training_set_dir: Path) -> ArtifactRef:
    return publish(settings, TrainingSet, training_set_dir)


def request(dataset: ArtifactRef, **config: Any) -> StageRequest:
    return StageRequest(
        component="train_ranker", config=config, inputs={"dataset": dataset}, window=WINDOW, pipeline="nightly",
        stage="train", run_id="first",
    )  # fmt: skip


def start(settings: Settings, asked: StageRequest) -> tuple[subprocess.Popen[bytes], TrainingJob, list[psutil.Process]]:
    """Start the stage in a process of its own; return it with its whole tree once the first epoch is over."""
    stage = start_stage(settings, asked)
    deadline = time.monotonic() + 150
    while not (found := [f for f in settings.home.glob(f"training/*/{PROGRESS}") if f.stat().st_size]):
        assert stage.poll() is None
        assert time.monotonic() < deadline, "no epoch was trained"
        time.sleep(0.1)
    job = TrainingJob.model_validate_json((found[0].parent / JOB).read_text())
    return stage, job, psutil.Process(stage.pid).children(recursive=True)


def gone_within(tree: list[psutil.Process], seconds: float) -> bool:
    return not psutil.wait_procs(tree, timeout=seconds)[1]


def published(settings: Settings) -> list[str]:
    return [path.parent.name for path in (settings.home / "artifacts" / "train_ranker").glob("*/stage.json")]


def runs(settings: Settings) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("nightly")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


@pytest.fixture(scope="module")
def killed_then_run(settings: Settings, dataset: ArtifactRef) -> StageResult:
    """Kill the stage with SIGKILL in the middle of training, see that nothing is left, and run it again."""
    asked = request(dataset, **LONG)
    stage, job, tree = start(settings, asked)
    names = " ".join(process.name() for process in tree)
    assert "raylet" in names
    assert "gcs_server" in names
    assert sum("RayTrainWorker" in " ".join(process.cmdline()) for process in tree) == 2
    os.kill(stage.pid, signal.SIGKILL)
    stage.wait(10)
    assert gone_within(tree, 15), [process.name() for process in tree if process.is_running()]
    assert job.ray_temp is not None
    assert not job.ray_temp.exists()
    assert published(settings) == []
    return execute(asked, settings=settings)


def test_a_killed_stage_leaves_nothing_and_running_it_again_completes(
    settings: Settings, killed_then_run: StageResult
) -> None:
    assert published(settings) == [killed_then_run.key]
    assert [run.info.status for run in runs(settings)] == ["KILLED", "FINISHED"]
    assert list((settings.home / "scratch").iterdir()) == []
    assert [p for p in psutil.Process().children(recursive=True) if "ray" in p.name()] == []


def test_the_artifact_is_complete_and_answers(
    settings: Settings, killed_then_run: StageResult, training_set_dir: Path
) -> None:
    from components.data.training_set import read_schema
    from components.rankers.tasks import tasks_of
    from components.train.train_ranker.feed import open_split
    from components.train.train_ranker.loop import Replica, judge, predict

    store = open_store(settings)
    ref = killed_then_run.outputs["ranker"]
    directory = store.fetch(ref.load())
    assert {path.name for path in directory.iterdir()} == {
        "weights.safetensors", "ranker.json", "schema.json", "encoder.json", "history.json", "curves.png",
        "manifest.json",
    }  # fmt: skip
    history = [EpochReport.model_validate(report) for report in json.loads((directory / "history.json").read_text())]
    best = next(report for report in reversed(history) if report.best)
    assert best.metrics["validation/like/auc"] > 0.62
    schema = read_schema(directory)
    rows, tasks = open_split(training_set_dir, "validation", schema), tasks_of(schema.declaration)
    found = judge(predict(load_ranker(directory), rows, tasks, Replica()), rows, tasks)
    assert found == pytest.approx(best.metrics, abs=1e-6), "the weights are those of the best epoch"


def test_mlflow_has_every_epoch_the_parameters_and_the_curves(settings: Settings, killed_then_run: StageResult) -> None:
    from mlflow import MlflowClient

    run = runs(settings)[-1]
    ref = killed_then_run.outputs["ranker"].load()
    facts = open_store(settings).manifest(ref).annotations
    assert facts["mlflow_run_id"] == run.info.run_id and float(facts["epoch_seconds"]) > 0
    assert set(facts) == {"mlflow_run_id", "epoch_seconds", "embedding_parameters", "dense_parameters"}
    assert run.info.run_name == "first"
    assert run.data.tags["rankmill.key"] == killed_then_run.key
    assert run.data.params["ranker.name"] == "esmm"
    assert run.data.params["workers"] == "2"
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    for name in ("validation_like_auc", "validation_love_given_like_log_loss", "train_loss"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, name)] == list(range(1, 13))
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["curves.png"]


def test_the_second_time_it_comes_from_the_cache(
    settings: Settings, dataset: ArtifactRef, killed_then_run: StageResult
) -> None:
    again = execute(request(dataset, **LONG), settings=settings)
    assert again.cached
    assert again.outputs == killed_then_run.outputs


def killing(word: str, others: list[psutil.Process], killed: list[int]) -> Any:
    """Return a `read_progress` that kills the first process whose command holds `word` once two epochs are over."""
    from components.train.train_ranker import component

    follow_in_earnest = component.read_progress

    def follow(directory: Path, skip: int = 0) -> Any:
        lines = follow_in_earnest(directory, skip=skip)
        if skip >= 1 and lines and not killed:
            tree = [p for p in psutil.Process().children(recursive=True) if p not in others]
            victim = [p for p in tree if word in " ".join(p.cmdline()) and "process_tree" not in " ".join(p.cmdline())][
                -1
            ]
            killed.append(victim.pid)
            victim.kill()
        return lines

    return follow


@pytest.mark.parametrize(("workers", "word"), [(2, "RayTrainWorker"), (1, "ray_launch")], ids=["worker", "trainer"])
def test_what_is_killed_starts_again_and_ends_as_if_nothing_had_been(
    workers: int,
    word: str,
    settings: Settings,
    dataset: ArtifactRef,
    killed_then_run: StageResult,
    training_set_dir: Path,
    engines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL after two epochs: training goes on from its checkpoint, and the artifact is that of a quiet run."""
    from components.train.train_ranker import component

    config = LONG | {"workers": workers}
    elsewhere = ready(tmp_path / "home", engines)
    same = publish(elsewhere, TrainingSet, training_set_dir)
    killed: list[int] = []
    with monkeypatch.context() as patch:
        others = psutil.Process().children(recursive=True)  # the test runner's own
        patch.setattr(component, "read_progress", killing(word, others, killed))
        disturbed = execute(request(same, **config), settings=elsewhere)
    assert len(killed) == 1
    assert any(note.startswith("training starts again: ") for note in disturbed.notes)
    assert runs(elsewhere)[-1].info.status == "FINISHED"
    assert list((elsewhere.home / "training").glob("*/")) == [], "nothing stays behind"
    quiet = killed_then_run if config == LONG else execute(request(dataset, **config), settings=settings)
    assert quiet.outputs["ranker"].digest == disturbed.outputs["ranker"].digest


def test_what_dies_again_and_again_is_an_error_that_a_retry_may_cure(
    settings: Settings, dataset: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.train.train_ranker import component

    others = psutil.Process().children(recursive=True)
    monkeypatch.setattr(component, "read_progress", killing("RayTrainWorker", others, []))
    monkeypatch.setattr(component, "RESTARTS", 0)
    before = published(settings)
    with pytest.raises(RetryableError, match=r"a training worker was lost: .*run again"):
        execute(request(dataset, **(LONG | {"seed": 2, "epochs": 1000, "patience": 1000})), settings=settings)
    assert gone_within([p for p in psutil.Process().children(recursive=True) if p not in others], 5)
    assert published(settings) == before
    assert runs(settings)[-1].info.status == "FAILED"


def test_an_error_in_a_worker_comes_back_as_its_one_sentence(settings: Settings, dataset: ArtifactRef) -> None:
    before = published(settings)
    with pytest.raises(BadInputError, match=r"^training diverged: the loss is \S+ in epoch 1, step \d+, .*; lower"):
        execute(request(dataset, ranker=SMALL, learning_rate=1e30, batch_size=64), settings=settings)
    assert published(settings) == before
    assert runs(settings)[-1].info.status == "FAILED"


def test_one_worker_needs_no_cluster_and_the_cluster_would_learn_the_same(
    training_set_dir: Path, tmp_path: Path
) -> None:
    """One worker runs in the training process itself; a local cluster of one gives the same bytes, only later."""
    code = "import sys; from pathlib import Path; from components.train.train_ranker import ray_launch as l\n"
    code += "here = l._launch_here\n"
    code += "def told(job): print('HERE'); here(job)\n"
    code += "l._launch_here = told\n"
    code += "l.LOCAL_WORKERS = int(sys.argv[2])\n"
    code += "sys.exit(l.main(Path(sys.argv[1])))"
    weights = {}
    for local in (1, 0):
        work = tmp_path / str(local)
        work.mkdir()
        sockets = Path(tempfile.mkdtemp(prefix="rankmill-ray-", dir="/tmp"))
        config = Config.model_validate({"ranker": SMALL, "epochs": 2, "batch_size": 256})
        job = TrainingJob(name="one", dataset=training_set_dir, directory=work, config=config, ray_temp=sockets)
        command = [sys.executable, "-c", code, str(job.write()), str(local)]
        with ProcessTree(command, log=work / "log", cleanup=[sockets]) as tree:
            assert tree.wait(150) == 0, (work / "log").read_text()
        assert ("HERE" in (work / "log").read_text()) == bool(local)
        weights[local] = (work / "weights.safetensors").read_bytes()
    assert weights[1] == weights[0]


@pytest.mark.parametrize(("config", "numbers"), [({"workers": 512}, "workers: 512 need 512 CPUs, this machine has")])
def test_more_workers_than_the_machine_has_fail_before_ray_starts(
    settings: Settings, dataset: ArtifactRef, config: dict[str, int], numbers: str
) -> None:
    trainings = settings.home / TRAININGS
    before = sorted(trainings.glob("*"))
    with pytest.raises(BadInputError, match=numbers):
        execute(request(dataset, ranker=SMALL, **config), settings=settings)
    assert sorted(trainings.glob("*")) == before, "no training process was made ready"
