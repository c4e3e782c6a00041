"""Does a run work in the place that its profile names, and does nothing that it leaves hold a secret?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.airflow.conftest import World

pytestmark = pytest.mark.engine
SECRET, PASSWORD = "s3cr3t-of-the-store", "hunter2"  # what must never be seen again

PROFILE = """
name: elsewhere
home: {home}
artifacts: ${{env:PROBE_STORE}}
mlflow: {{tracking_uri: "${{connection:probe_mlflow}}"}}
environment: {{PROBE_SECRET: "${{env:PROBE_VAULT}}"}}
"""
STAGES = """
  first: {uses: write_words, with: {text: hello}}
  second: {uses: write_words, with: {outcome: tell}, after: [first]}
"""


@dataclass(frozen=True)
class Guarded(World):
    """A world whose shell holds the secrets that a profile refers to."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "PROBE_STORE": (self.folder / "elsewhere store").as_uri(),
            "PROBE_VAULT": SECRET,
            # A tracking URI with a password that no server is asked for: no stage here tracks anything.
            "AIRFLOW_CONN_PROBE_MLFLOW": f"http://ada:{PASSWORD}@127.0.0.1:9",
        }


def test_a_run_in_a_profile_leaves_no_secret_anywhere(world: World) -> None:
    guarded = Guarded(world.folder)
    home = world.folder / "elsewhere home"
    profile = world.folder / "elsewhere.yaml"
    profile.write_text(PROFILE.format(home=home))
    file = guarded.pipeline("guarded", STAGES)

    done = guarded.rankmill("run", str(file), "--profile", str(profile))

    assert done.returncode == 2, done.stdout + done.stderr
    assert "second failed: the store refused ***" in done.stdout
    assert f"continue with: rankmill run {file} --profile {profile} --from second" in done.stdout
    (run,) = (home / "runs" / "guarded").iterdir()
    log = written(run / "run.log", "Task failed")
    assert "chatter ***" in log and "chatter of a child ***" in log, log
    assert json.loads((run / "end.json").read_text())["message"] == "the store refused ***"
    assert list((world.folder / "elsewhere store" / "write_words").iterdir()), "the artifacts lie where it says"
    assert not (world.home / "runs" / "guarded").exists()
    listed = guarded.rankmill("--profile", str(profile), "runs", "--json")
    assert json.loads(listed.stdout)[0]["result"] == "the store refused ***"
    for said in (done.stdout, done.stderr, listed.stdout, listed.stderr):
        assert SECRET not in said and PASSWORD not in said
    assert holding(SECRET, home) == holding(PASSWORD, home) == []
    assert holding(SECRET, world.folder / "elsewhere store") == []


TASK = """
import os
from pipelines.run import airflow_dag
from airflow.sdk.log import redact
airflow_dag._use_profile()
print(os.environ["PROBE_SECRET"] == os.environ["PROBE_VAULT"], redact("it is " + os.environ["PROBE_VAULT"]))
"""


def test_a_task_of_somebody_elses_airflow_works_in_the_profile_and_airflow_hides_its_secrets(world: World) -> None:
    guarded = Guarded(world.folder)
    profile = world.folder / "elsewhere.yaml"
    profile.write_text(PROFILE.format(home=world.folder / "elsewhere home"))
    env = guarded.environment | {"RANKMILL_PROFILE": str(profile), "AIRFLOW_HOME": str(world.folder / "their airflow")}
    done = subprocess.run([sys.executable, "-c", TASK], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["True it is ***"], done.stdout + done.stderr


def written(log: Path, last: str) -> str:
    """Return a log once its filter, a process of its own, has written the last of it."""
    until = time.monotonic() + 10
    while last not in (text := log.read_text()) and time.monotonic() < until:
        time.sleep(0.1)
    return text


def holding(secret: str, folder: Path) -> list[str]:
    """Files below a folder that hold a secret."""
    paths = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return [str(path) for path in paths if secret.encode() in path.read_bytes()]
