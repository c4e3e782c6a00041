"""Does training on a cluster outlive the task that started it, and survive the cluster's own restart?"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from ray.job_submission import JobSubmissionClient

from components.platform.artifacts import TrainingSet
from components.platform.contract import MLFLOW_RUN_ID
from components.platform.errors import BadInputError, RetryableError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.train_ranker.ray_access import MODE, TOKEN, show_token
from components.train.tuned import read_tuning
from features.declaration import Window
from tests.local_servers import free_port
from tests.stages import start_stage
from tests.trained import publish

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 31, tzinfo=UTC))
CONFIG: dict[str, Any] = {
    "ranker": {"name": "esmm", "embedding_width": 8, "hidden": [32, 16]}, "epochs": 40, "patience": 400,
    "batch_size": 64,
}  # fmt: skip


class Cluster:
    """A Ray head of its own, as an operator starts one.

    Args:
        cpus: of the head.
    """

    def __init__(self, cpus: int = 2) -> None:
        self.cpus = cpus
        self.node: subprocess.Popen[bytes] | None = None
        self.port, self.dashboard, self.folder = (
            free_port(),
            free_port(),
            Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp")),
        )
        self.address = f"http://127.0.0.1:{self.dashboard}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [RAY, "start", "--head", "--block", "--port", self.port, "--dashboard-host", "127.0.0.1"]
        command += [
            "--dashboard-port",
            self.dashboard,
            "--include-dashboard=true",
            "--num-cpus",
            self.cpus,
            "--temp-dir",
            self.folder,
        ]
        command += ["--node-ip-address", "127.0.0.1", "--disable-usage-stats", "--object-store-memory", 200_000_000]
        command += ["--ray-client-server-port", free_port(), "--dashboard-agent-listen-port", free_port()]
        self.process = self._run(command)
        deadline = time.monotonic() + 90
        while True:
            try:
                JobSubmissionClient(self.address).list_jobs()
                return
            except (OSError, RuntimeError):
                assert time.monotonic() < deadline, "the cluster did not come up"
                time.sleep(0.5)

    def join(self, cpus: int) -> None:
        """Let another node join, with so many CPUs."""
        command = [RAY, "start", "--address", f"127.0.0.1:{self.port}", "--block", "--num-cpus", cpus]
        command += ["--node-ip-address", "127.0.0.1", "--disable-usage-stats", "--object-store-memory", 100_000_000]
        self.node = self._run([*command, "--dashboard-agent-listen-port", free_port()])

    def stop(self) -> None:
        for started in filter(None, (self.node, self.process)):
            tree = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
            for process in tree:
                if process.is_running():
                    process.kill()
            psutil.wait_procs(tree, timeout=10)
            started.wait(10)
        self.node = None

    @staticmethod
    def _run(command: list[Any]) -> subprocess.Popen[bytes]:
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, start_new_session=True, **silent)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        # Nodes ask for it, and so does the job server.
        patch.setenv(TOKEN, secrets.token_hex(32))
        patch.setenv(MODE, "token")
        show_token()
        made = Cluster()
        made.start()
        yield made
        made.stop()
        shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.at(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def dataset(home: Settings, training_set_dir: Path) -> ArtifactRef:
    return publish(home, TrainingSet, training_set_dir)


def request(dataset: ArtifactRef, **config: Any) -> StageRequest:
    return StageRequest(
        component="train_ranker", config=CONFIG | config, inputs={"dataset": dataset}, window=WINDOW, pipeline="remote",
        stage="train", run_id="first",
    )  # fmt: skip


def quiet_digest(home: Settings, asked: StageRequest, key: str) -> str:
    """The digest of the same training on this machine, undisturbed."""
    store = open_store(home)
    record = store.find("train_ranker", key)
    assert record is not None
    store.discard(record)
    return execute(asked, settings=home).outputs["ranker"].digest


def last_area(home: Settings, result: StageResult) -> float:
    """The validation AUC of like after the last epoch."""
    history = json.loads((open_store(home).fetch(result.outputs["ranker"]) / "history.json").read_text())
    return float(history[-1]["metrics"]["validation/like/auc"])


def started(home: Settings, cluster: Cluster, asked: StageRequest) -> subprocess.Popen[bytes]:
    """Start the stage as a scheduler's task would, and wait for its second epoch."""
    stage = start_stage(replace(home, ray_address=cluster.address), asked)
    deadline = time.monotonic() + 150
    while not any(len(f.read_text().splitlines()) > 1 for f in home.home.glob("training/*/progress.jsonl")):
        assert stage.poll() is None
        assert time.monotonic() < deadline, "no epoch was trained"
        time.sleep(0.1)
    return stage


def test_a_task_that_dies_finds_its_job_again(home: Settings, cluster: Cluster, dataset: ArtifactRef) -> None:
    asked = request(dataset, seed=1, epochs=150)
    stage = started(home, cluster, asked)
    os.kill(stage.pid, signal.SIGKILL)
    stage.wait(10)
    client = JobSubmissionClient(cluster.address)
    [before] = [job for job in client.list_jobs() if not job.status.is_terminal()]
    result = execute(asked, settings=replace(home, ray_address=cluster.address))
    jobs = client.list_jobs()
    assert [job.submission_id for job in jobs] == [before.submission_id]
    assert jobs[0].start_time == before.start_time, "no second job was started"
    assert quiet_digest(home, asked, result.key) == result.outputs["ranker"].digest


def test_a_cluster_that_restarts_costs_what_came_after_the_last_checkpoint(
    home: Settings, cluster: Cluster, dataset: ArtifactRef
) -> None:
    asked = request(dataset, seed=2, epochs=150)
    stage = started(home, cluster, asked)
    cluster.stop()
    cluster.start()
    assert stage.wait(200) == 0
    result = execute(asked, settings=home)
    assert result.cached
    assert any(note.startswith("training starts again: the Ray cluster at") for note in result.notes)
    assert quiet_digest(home, asked, result.key) == result.outputs["ranker"].digest


def test_a_group_grows_when_a_node_joins(home: Settings, dataset: ArtifactRef) -> None:
    small = Cluster(cpus=1)
    small.start()
    try:
        slowly: dict[str, Any] = {"seed": 4, "epochs": 220, "learning_rate": 1e-4}
        asked = request(dataset, **slowly, workers={"min": 1, "max": 2})
        stage = started(home, small, asked)
        small.join(cpus=1)
        assert stage.wait(300) == 0
    finally:
        small.stop()
        shutil.rmtree(small.folder, ignore_errors=True)
    result = execute(asked, settings=home)
    assert result.cached
    record = open_store(home).find("train_ranker", result.key)
    assert record is not None
    client, run = MlflowClient(tracking_uri=home.tracking_uri), record.annotations[MLFLOW_RUN_ID]
    workers = {int(metric.step): int(metric.value) for metric in client.get_metric_history(run, "workers")}
    assert sorted(workers) == list(range(1, 221)), "every epoch counts once"
    assert workers[1] == 1
    assert workers[220] == 2
    alone = execute(request(dataset, **slowly), settings=home)
    areas = [last_area(home, each) for each in (result, alone)]
    assert areas[0] == pytest.approx(areas[1], abs=0.001)


def test_a_clusters_workers_meet_where_only_their_user_may_enter(
    home: Settings, cluster: Cluster, dataset: ArtifactRef
) -> None:
    """PyTorch's own meeting is a server for everybody; that there is a file says that there is no server."""
    stage = started(home, cluster, request(dataset, seed=7, epochs=400, workers=2))
    try:
        [folder] = home.home.glob("training/*/meeting")
        assert folder.stat().st_mode & 0o777 == 0o700
        [meeting] = folder.iterdir()
        assert meeting.stat().st_size > 0
    finally:
        stage.send_signal(signal.SIGINT)
        stage.wait(60)
    client, deadline = JobSubmissionClient(cluster.address), time.monotonic() + 60
    while any(not job.status.is_terminal() for job in client.list_jobs()):
        assert time.monotonic() < deadline, "the job of an interrupted stage goes on"
        time.sleep(0.5)


def test_a_search_on_a_cluster_is_a_job_and_finds_what_it_finds_here(
    home: Settings, cluster: Cluster, dataset: ArtifactRef
) -> None:
    asked = StageRequest(
        component="tune_ranker", inputs={"dataset": dataset}, window=WINDOW, pipeline="remote", stage="tune",
        run_id="first",
        config={
            "ranker": {"name": "esmm", "embedding_width": 4, "hidden": [8]},
            "space": {"learning_rate": {"log": [1e-4, 3e-2]}}, "trials": 4, "epochs": 2, "batch_size": 64,
        },
    )  # fmt: skip
    there = execute(asked, settings=replace(home, ray_address=cluster.address))
    jobs = [job.submission_id for job in JobSubmissionClient(cluster.address).list_jobs()]
    assert any(str(job).startswith("rankmill-tune-") for job in jobs)
    store = open_store(home)
    record = store.find("tune_ranker", there.key)
    assert record is not None
    store.discard(record)
    here = execute(asked, settings=home)
    found = [read_tuning(store.fetch(result.outputs["tuned"])) for result in (there, here)]
    assert found[0] == found[1] and found[0].trials == 4


def test_without_its_token_the_cluster_takes_no_job(
    home: Settings, cluster: Cluster, dataset: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "0" * 64)
    stage = start_stage(replace(home, ray_address=cluster.address), request(dataset, seed=6))
    assert stage.wait(100) != 0
    assert not [job for job in JobSubmissionClient(cluster.address).list_jobs() if not job.status.is_terminal()]


def test_a_bad_configuration_comes_back_as_its_sentence(home: Settings, cluster: Cluster, dataset: ArtifactRef) -> None:
    with pytest.raises(BadInputError, match="training diverged: the loss is"):
        execute(request(dataset, learning_rate=1e30), settings=replace(home, ray_address=cluster.address))
    with pytest.raises(BadInputError, match=r"workers: 64 need 64 CPUs, the Ray cluster at .* has 2"):
        execute(request(dataset, workers=64), settings=replace(home, ray_address=cluster.address))


def test_a_cluster_that_is_not_there_is_a_sentence(home: Settings, dataset: ArtifactRef) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RetryableError, match=rf"the Ray cluster at {address} takes no job: .*; start it, or correct"):
        execute(request(dataset, seed=3), settings=replace(home, ray_address=address))
