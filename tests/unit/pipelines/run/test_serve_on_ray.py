"""Does a service run where it is told to, or its profile says, and do replicas learn what they need and no more?"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from components.platform.errors import BadInputError, RetryableError
from components.platform.settings import Settings
from pipelines.run.service.on_ray import _places
from pipelines.run.service.processes import serve
from pipelines.run.service.secrets import secret_variables
from registry.serving.wire.config import ServingConfig
from tests.local_servers import HOST, free_port


@pytest.fixture
def busy() -> Any:
    """A port that somebody else listens on."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def config(port: int = 8500, **more: Any) -> ServingConfig:
    return ServingConfig.model_validate({"name": "shop", "model": "shop", "listen": {"port": port}} | more)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANKMILL_HOME", str(tmp_path))
    monkeypatch.delenv("RANKMILL_RAY_ADDRESS", raising=False)
    return tmp_path


@pytest.mark.usefixtures("home")
def test_without_a_cluster_it_runs_here_and_on_ray_is_a_mistake(busy: int) -> None:
    with pytest.raises(BadInputError, match="cannot be listened on"):
        serve(config(busy))
    with pytest.raises(BadInputError, match="'shop' --on ray needs a cluster: name its address in the profile"):
        serve(config(busy), "ray")


@pytest.mark.usefixtures("home")
def test_with_a_cluster_it_runs_there_unless_told_otherwise(busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc_reflection", reason="the extra serve-ray is not installed")
    address = f"http://{HOST}:{free_port()}"
    monkeypatch.setenv("RANKMILL_RAY_ADDRESS", address)
    for engine in (None, "ray"):
        with pytest.raises(
            RetryableError, match=f"the Ray cluster at {address} takes no job: .*; start it, or correct"
        ):
            serve(config(busy), engine)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="cannot be listened on"):
        serve(config(busy), "uvicorn")
    assert [*Path(Settings.from_environment().home / "serving").glob(".*")] == [], "what held the secrets is gone"


def test_replicas_learn_places_and_keys_and_not_how_to_rule_the_cluster(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the cluster")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the store")
    monkeypatch.setenv("HASH_KEY", "of the log")
    monkeypatch.setenv("EDITOR", "ed")
    asked = config(log={"hash": ["user_id"], "hash_key": "${env:HASH_KEY}"})
    found = _places(Settings.at(home), secret_variables(asked))
    assert found["AWS_SECRET_ACCESS_KEY"] == "of the store" and found["HASH_KEY"] == "of the log"
    assert found["RANKMILL_ARTIFACTS"] == (home / "artifacts").as_uri()
    assert not [name for name in found if name.startswith("RAY_")] and "EDITOR" not in found
