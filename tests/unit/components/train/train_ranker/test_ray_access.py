"""Does a local Ray get a token that only its run knows, and a cluster the one that its operator gave?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from components.train.train_ranker import remote
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.ray_access import MODE, TOKEN, TOKEN_PATH, close_to_others, show_token
from pipelines.language.problems import PipelineError
from pipelines.language.profile import load_profile, use_profile


def test_every_run_has_a_token_of_its_own_that_others_cannot_read(tmp_path: Path) -> None:
    tokens = set()
    for run in ("one", "two"):
        env = {TOKEN: "the cluster's", MODE: "disabled"}
        close_to_others(tmp_path / run, env)
        assert env[MODE] == "token" and TOKEN not in env
        file = Path(env[TOKEN_PATH])
        assert file.is_relative_to(tmp_path / run) and file.stat().st_mode & 0o777 == 0o600
        tokens.add(file.read_text())
    assert len(tokens) == 2 and all(len(bytes.fromhex(token)) == 32 for token in tokens)


def test_a_clusters_token_is_shown_and_a_mode_that_is_set_stays() -> None:
    for given, mode in [({TOKEN: "t"}, "token"), ({TOKEN_PATH: "/t"}, "token"), ({}, None)]:
        env = dict(given)
        show_token(env)
        assert env.get(MODE) == mode
    env = {TOKEN: "t", MODE: "disabled"}
    show_token(env)
    assert env[MODE] == "disabled"


def write_profile(folder: Path, token: str) -> Path:
    file = folder / "office.yaml"
    file.write_text(f'name: office\nray: {{address: "http://ray:8265", token: "{token}"}}\n')
    return file


def test_a_profile_gives_the_token_by_reference(tmp_path: Path) -> None:
    env = {"OFFICE_TOKEN": "t0ken-of-the-office"}
    use_profile(str(write_profile(tmp_path, "${env:OFFICE_TOKEN}")), env)
    assert env[TOKEN] == "t0ken-of-the-office"


def test_a_token_in_the_file_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="token is a secret: write") as caught:
        load_profile(write_profile(tmp_path, "t0ken-of-the-office"))
    assert "t0ken-of" not in str(caught.value)


class Client:
    """A job server that keeps what it is given."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def list_jobs(self) -> list[Any]:
        return []

    def submit_job(self, **job: Any) -> None:
        self.given = job


def test_a_path_with_what_a_shell_reads_stays_one_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job server gives the line to a shell."""
    home = tmp_path / "my home; touch $(owned) & 'x'"
    home.mkdir()
    client = Client()
    monkeypatch.setattr(remote.RemoteJob, "_client", client)
    monkeypatch.setenv(TOKEN, "t0ken-of-the-office")
    job = TrainingJob.model_construct(name="n", directory=home, ray_address="http://ray:8265")
    monkeypatch.setattr(TrainingJob, "write", lambda self: self.directory / "job.json")
    with remote.RemoteJob(job, tmp_path / "log", lambda: None):
        pass
    line = shlex.split(client.given["entrypoint"])
    assert line[1:] == ["-m", "components.train.train_ranker.ray_launch", str(home / "job.json")]
    assert "t0ken" not in str(client.given), "Ray writes what it is given to its logs"
