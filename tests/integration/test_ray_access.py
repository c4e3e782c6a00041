"""Is training on several workers of one machine closed to everybody else?"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from components.platform.artifacts import TrainingSet
from components.platform.execute import StageRequest
from components.platform.settings import Settings
from components.train.train_ranker.job import JOB, PROGRESS, TrainingJob
from components.train.train_ranker.ray_access import LOOPBACK_ONLY
from features.declaration import Window
from tests.stages import start_stage
from tests.trained import publish

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 31, tzinfo=UTC))
CONFIG = {
    "ranker": {"name": "esmm", "embedding_width": 8, "hidden": [32, 16]},
    "epochs": 1000, "patience": 1000, "batch_size": 64, "learning_rate": 1e-5, "workers": 2,
}  # fmt: skip
INTRUDER = """
import sys
import ray
ray.init(address=sys.argv[1], logging_level="error", log_to_driver=False)
print("JOINED", ray.get(ray.remote(num_cpus=0)(lambda: 6 * 7).remote()))
"""


class Training:
    """Two workers in the middle of their work, and everything that runs for them."""

    def __init__(self, home: Path, dataset: Path) -> None:
        settings = Settings.at(home)
        published = publish(settings, TrainingSet, dataset)
        self.stage = start_stage(
            settings,
            StageRequest(
                component="train_ranker", config=CONFIG, inputs={"dataset": published}, window=WINDOW,
                pipeline="nightly", stage="train", run_id="first",
            ),
        )  # fmt: skip
        deadline = time.monotonic() + 200
        while not (found := [f for f in home.glob(f"training/*/{PROGRESS}") if f.stat().st_size]):
            assert self.stage.poll() is None
            assert time.monotonic() < deadline, "no epoch was trained"
            time.sleep(0.1)
        self.job = TrainingJob.model_validate_json((found[0].parent / JOB).read_text())
        self.tree = psutil.Process(self.stage.pid).children(recursive=True)

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

    def knock(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Try to run code on the cluster from another process of the same user."""
        [port] = [port for (_, port), name in self.listening.items() if name == "gcs_server"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | LOOPBACK_ONLY
        return subprocess.run(
            [sys.executable, "-c", INTRUDER, f"127.0.0.1:{port}"], env=env | variables, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, training_set_dir: Path) -> Iterator[Training]:
    made = Training(tmp_path_factory.mktemp("home"), training_set_dir)
    yield made
    made.stage.terminate()
    made.stage.wait(60)
    assert not psutil.wait_procs(made.tree, timeout=20)[1]


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


@pytest.mark.parametrize(
    "variables",
    [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}],
    ids=["no token", "a wrong token"],
)
def test_a_process_without_the_token_is_refused(training: Training, variables: dict[str, str]) -> None:
    done = training.knock(**variables)
    assert done.returncode != 0 and "JOINED" not in done.stdout
    assert "token" in done.stderr.lower(), done.stderr
    assert training.stage.poll() is None, "and the training goes on"


def test_the_token_is_what_was_missing(training: Training) -> None:
    done = training.knock(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(training.token))
    assert "JOINED 42" in done.stdout, done.stderr
