"""Does the train stage train on real Ray workers, closed to everybody else, and does nothing of it survive its end?

A cluster is dear to start, so one training answers for several tests: it is stopped after its first epoch, looked at
from outside, killed with its stage, run again while one of its workers is killed, and compared with one in peace.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from components.train.train_ranker.job import JOB, PROGRESS, TRAININGS, TrainingJob, read_progress
from components.train.train_ranker.ray_access import LOOPBACK_ONLY
from features.declaration import Window
from features.encoding.files import FILES
from tests.homes import ready
from tests.stages import start_stage
from tests.trained import publish

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 31, tzinfo=UTC))
SMALL = {"name": "esmm", "embedding_width": 8, "hidden": [32, 16]}
LONG = {"ranker": SMALL, "epochs": 20, "patience": 20, "batch_size": 128, "workers": 2}
"""Long enough to be caught in the middle, short enough to be run to the end."""
INTRUDER = """
import sys
import ray
ray.init(address=sys.argv[1], logging_level="error", log_to_driver=False)
print("JOINED", ray.get(ray.remote(num_cpus=0)(lambda: 6 * 7).remote()))
"""
IN_PEACE = """
import sys
from pathlib import Path
import torch, torch.distributed as dist
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.loop import Replica, train
from components.train.train_ranker.ray_launch import usable_cpus
file, rank = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(max(1, usable_cpus() // 2))
dist.init_process_group("gloo", init_method=(file.parent / "meeting").as_uri(), rank=rank, world_size=2)
train(TrainingJob.model_validate_json(file.read_text()), Replica(rank=rank, world=2))
dist.destroy_process_group()
"""
"""A worker of two without Ray, which nobody disturbs."""


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


class Training:
    """Two workers in the middle of their work, where they stop, and everything that runs for them."""

    def __init__(self, settings: Settings, asked: StageRequest) -> None:
        self.asked = asked
        self.stage = start_stage(settings, asked)
        deadline = time.monotonic() + 200
        while not (found := [f for f in settings.home.glob(f"training/*/{PROGRESS}") if f.stat().st_size]):
            assert self.stage.poll() is None
            assert time.monotonic() < deadline, "no epoch was trained"
            time.sleep(0.02)
        self.tree = psutil.Process(self.stage.pid).children(recursive=True)
        self.workers = [process for process in self.tree if "RayTrainWorker" in " ".join(process.cmdline())]
        for worker in self.workers:
            worker.suspend()
        self.job = TrainingJob.model_validate_json((found[0].parent / JOB).read_text())

    @property
    def token(self) -> Path:
        assert self.job.ray_temp is not None
        return self.job.ray_temp / "auth_token"

    @property
    def listening(self) -> dict[tuple[str, int], str]:
        """Address and port of every socket that waits for somebody, and whose it is."""
        return {
            (connection.laddr.ip, connection.laddr.port): process.name()
            for process in self.tree
            if process.is_running()
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }

    def knock(self, **variables: str) -> subprocess.Popen[str]:
        """Try to run code on the cluster from another process of the same user, which does not try for long."""
        [port] = [port for (_, port), name in self.listening.items() if name == "gcs_server"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | LOOPBACK_ONLY
        return subprocess.Popen(
            [sys.executable, "-c", INTRUDER, f"127.0.0.1:{port}"],
            env=env | {"RAY_NUM_REDIS_GET_RETRIES": "2"} | variables,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def kill(self) -> None:
        """Kill the stage with SIGKILL; nothing of it is left."""
        os.kill(self.stage.pid, signal.SIGKILL)
        for worker in self.workers:
            worker.resume()
        self.stage.wait(10)
        assert gone_within(self.tree, 15), [process.name() for process in self.tree if process.is_running()]


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
def training(settings: Settings, dataset: ArtifactRef) -> Iterator[Training]:
    made = Training(settings, request(dataset, **LONG))
    yield made
    if made.stage.poll() is None:
        made.kill()


def test_it_trains_on_two_workers_of_ray(training: Training) -> None:
    names = " ".join(process.name() for process in training.tree)
    assert "raylet" in names
    assert "gcs_server" in names
    assert len(training.workers) == 2
    commands = " ".join(" ".join(process.cmdline()) for process in training.tree)
    for idle in ("log_monitor.py", "monitor.py", "dashboard.py", "DatasetManager", "PlacementGroupCleaner", "Autoscal"):
        assert idle not in commands, "a second or more to start, for nothing"


# --- who else gets in -----------------------------------------------------------------------------


def test_nothing_listens_beyond_loopback_while_workers_train(training: Training) -> None:
    found = training.listening
    names = set(found.values())
    assert {"gcs_server", "raylet"} <= names and len(found) >= 6
    assert [name for name in names if "TrainWorker" in name], names

    def private(address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback

    assert {place: name for place, name in found.items() if not private(place[0])} == {}


def test_only_its_user_can_read_the_token_which_is_new_for_every_run(training: Training) -> None:
    assert training.token.stat().st_mode & 0o777 == 0o600
    assert training.token.parent.stat().st_mode & 0o077 == 0
    assert len(training.token.read_text()) == 64


def test_a_process_without_the_token_is_refused_and_the_token_is_what_was_missing(training: Training) -> None:
    intruders = {
        "no token": training.knock(RAY_AUTH_MODE="disabled"),
        "a wrong token": training.knock(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64),
    }
    guest = training.knock(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(training.token))
    for kind, intruder in intruders.items():
        said, error = intruder.communicate(timeout=120)
        assert intruder.returncode != 0 and "JOINED" not in said, kind
        assert "token" in error.lower(), (kind, error)
    said, error = guest.communicate(timeout=120)
    assert "JOINED 42" in said, error
    assert training.stage.poll() is None, "and the training goes on"


# --- what is killed -------------------------------------------------------------------------------


@dataclass
class Kills:
    """What `killing` killed, and the names of all that ran then."""

    pids: list[int]
    names: list[str]


def killing(word: str, others: list[psutil.Process], kills: Kills) -> Any:
    """Return a `read_progress` that kills the first process whose command holds `word` once two epochs are over."""
    from components.train.train_ranker import component

    follow_in_earnest = component.read_progress

    def follow(directory: Path, skip: int = 0) -> Any:
        lines = follow_in_earnest(directory, skip=skip)
        if skip >= 1 and lines and not kills.pids:
            tree = [p for p in psutil.Process().children(recursive=True) if p not in others]
            victim = [p for p in tree if word in " ".join(p.cmdline()) and "process_tree" not in " ".join(p.cmdline())][
                -1
            ]
            kills.names.extend(p.name() for p in tree)
            kills.pids.append(victim.pid)
            victim.kill()
        return lines

    return follow


def executed_with_a_kill(word: str, asked: StageRequest, settings: Settings) -> tuple[StageResult, Kills]:
    """Execute a stage in this process, and kill what `word` names after two epochs."""
    from components.train.train_ranker import component

    kills = Kills([], [])
    with pytest.MonkeyPatch.context() as patch:
        others = psutil.Process().children(recursive=True)  # the test runner's own
        patch.setattr(component, "read_progress", killing(word, others, kills))
        return execute(asked, settings=settings), kills


@dataclass(frozen=True)
class Learned:
    """What must not differ by a bit: the weights, and every epoch's report."""

    weights: bytes
    history: list[EpochReport]

    @classmethod
    def of(cls, result: StageResult, settings: Settings) -> Learned:
        directory = open_store(settings).fetch(result.outputs["ranker"].load())
        history = json.loads((directory / "history.json").read_text())
        weights = (directory / "weights.safetensors").read_bytes()
        return cls(weights, [EpochReport.model_validate(report) for report in history])

    @classmethod
    def by(cls, job: TrainingJob) -> Learned:
        weights = (job.directory / "weights.safetensors").read_bytes()
        return cls(weights, [progress.report for progress in read_progress(job.directory)])


@pytest.fixture(scope="module")
def run_again(settings: Settings, training: Training) -> tuple[StageResult, Kills]:
    """Kill the stage in the middle of training, see that nothing is left, and run it again, killing a worker then."""
    if training.stage.poll() is None:
        training.kill()
    assert training.job.ray_temp is not None
    assert not training.job.ray_temp.exists()
    assert published(settings) == []
    return executed_with_a_kill("RayTrainWorker", training.asked, settings)


@pytest.fixture(scope="module")
def killed_then_run(run_again: tuple[StageResult, Kills]) -> StageResult:
    return run_again[0]


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
        "weights.safetensors", "ranker.json", "schema.json", *FILES, "history.json", "curves.png",
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
        assert [m.step for m in client.get_metric_history(run.info.run_id, name)] == list(range(1, 21))
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["curves.png"]


def test_the_second_time_it_comes_from_the_cache(
    settings: Settings, dataset: ArtifactRef, killed_then_run: StageResult
) -> None:
    again = execute(request(dataset, **LONG), settings=settings)
    assert again.cached
    assert again.outputs == killed_then_run.outputs


def assert_started_again(result: StageResult, kills: Kills, settings: Settings) -> None:
    assert len(kills.pids) == 1
    assert any(note.startswith("training starts again: ") for note in result.notes)
    assert runs(settings)[-1].info.status == "FINISHED"
    assert list((settings.home / "training").glob("*/")) == [], "nothing stays behind"


def test_a_killed_worker_starts_again_and_ends_as_if_nothing_had_been(
    settings: Settings, run_again: tuple[StageResult, Kills], training_set_dir: Path, tmp_path: Path
) -> None:
    """SIGKILL of the stage, then of a worker: the artifact is that of two workers who trained in peace."""
    result, kills = run_again
    assert_started_again(result, kills, settings)
    job = TrainingJob(
        name="peace", dataset=training_set_dir, directory=tmp_path, config=Config.model_validate(LONG)
    )  # fmt: skip
    file = job.write()
    workers = [subprocess.Popen([sys.executable, "-c", IN_PEACE, str(file), str(rank)]) for rank in (0, 1)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    assert Learned.by(job) == Learned.of(result, settings)


def test_a_killed_trainer_of_one_worker_starts_again_and_ends_as_a_cluster_of_one_does(
    training_set_dir: Path, engines: Path, tmp_path: Path
) -> None:
    """One worker runs in the training process itself; a cluster of one gives the same bytes, only later."""
    config = LONG | {"workers": 1}
    elsewhere = ready(tmp_path / "home", engines)
    same = publish(elsewhere, TrainingSet, training_set_dir)
    disturbed, kills = executed_with_a_kill("ray_launch", request(same, **config), elsewhere)
    assert_started_again(disturbed, kills, elsewhere)
    assert "raylet" not in kills.names
    code = "import sys; from pathlib import Path; from components.train.train_ranker import ray_launch as l\n"
    code += "l.LOCAL_WORKERS = 0\n"
    code += "sys.exit(l.run_job(l.TrainingJob, Path(sys.argv[1]), l.launch))"
    sockets = Path(tempfile.mkdtemp(prefix="rankmill-ray-", dir="/tmp"))
    job = TrainingJob(
        name="one", dataset=training_set_dir, directory=tmp_path, config=Config.model_validate(config), ray_temp=sockets
    )
    with ProcessTree([sys.executable, "-c", code, str(job.write())], log=tmp_path / "log", cleanup=[sockets]) as tree:
        assert tree.wait(150) == 0, (tmp_path / "log").read_text()
    assert "Ray is up" in (tmp_path / "log").read_text()
    assert Learned.by(job) == Learned.of(disturbed, elsewhere)


def test_what_dies_again_and_again_is_an_error_that_a_retry_may_cure(
    settings: Settings, dataset: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.train.train_ranker import component

    others = psutil.Process().children(recursive=True)
    monkeypatch.setattr(component, "read_progress", killing("RayTrainWorker", others, Kills([], [])))
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


@pytest.mark.parametrize(("config", "numbers"), [({"workers": 512}, "workers: 512 need 512 CPUs, this machine has")])
def test_more_workers_than_the_machine_has_fail_before_ray_starts(
    settings: Settings, dataset: ArtifactRef, config: dict[str, int], numbers: str
) -> None:
    trainings = settings.home / TRAININGS
    before = sorted(trainings.glob("*"))
    with pytest.raises(BadInputError, match=numbers):
        execute(request(dataset, ranker=SMALL, **config), settings=settings)
    assert sorted(trainings.glob("*")) == before, "no training process was made ready"
