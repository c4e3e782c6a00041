"""Is a version's place opened only below the configured roots, whatever MLflow's database says?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from components.platform.errors import BadInputError
from components.platform.settings import Settings
from registry.versions.client import Registry
from registry.versions.version_files import location
from tests.integration.registry.mill import put

pytestmark = pytest.mark.engine


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server of this machine, ``host:port``, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listening.server_port}", asked
    listening.shutdown()
    thread.join()
    listening.server_close()


def _move(registry: Registry, source: str) -> None:
    """Register a version that claims to be ours, with its files somewhere else."""
    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    tags = registry.versions("tiny_ranker")[0].tags
    client.create_model_version("tiny_ranker", source, tags=tags)


@pytest.mark.parametrize(
    "source",
    [
        "zip://model.zip::http://ada:geheim@{host}/x.zip",
        "http://ada:geheim@{host}/model?signature=geheim",
        "mlflow-artifacts://ada:geheim@{host}/model",
        "mlflow-artifacts:/model",
        "file:///etc/ssl",
        "/etc/ssl",
        "{root}/../outside",
        "{root}/%2e%2e/outside",
        "{root}",
        "ftp://ada:geheim@{host}/model",
        "s3://bucket/model",
        "",
    ],
)
def test_files_outside_the_configured_roots_are_not_opened(
    registry: Registry, models: dict[str, Path], tmp_path: Path, server: tuple[str, list[str]], source: str
) -> None:
    host, asked = server
    put(registry, models["good"], "d1")
    _move(registry, source.format(host=host, root=registry.artifact_root))
    with pytest.raises(BadInputError, match="files of tiny_ranker v2 are not opened: their ") as failure:
        registry.download("tiny_ranker", 2, tmp_path / "copy")
    assert asked == []
    assert not (tmp_path / "copy").exists()
    assert "geheim" not in str(failure.value) and "\n" not in str(failure.value)
    scheme = source.partition(":")[0] if ":" in source else "file"
    assert f"their {scheme}: URI " in str(failure.value)


def test_a_place_of_mlflow_itself_is_followed_to_where_it_leads(
    registry: Registry, models: dict[str, Path], tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    from mlflow import MlflowClient

    host, asked = server
    put(registry, models["good"], "d1")
    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    theirs = client.create_experiment("theirs", f"http://{host}/files")
    run = client.create_run(theirs).info.run_id
    model = client.create_logged_model(theirs, name="theirs").model_id
    _move(registry, f"runs:/{run}/model")
    _update(registry, 3, f"models:/{model}")
    _update(registry, 4, "models:/tiny_ranker/3")
    _update(registry, 5, "models:/tiny_ranker/5")
    for version in (2, 3, 4, 5):
        with pytest.raises(
            BadInputError, match=f"files of tiny_ranker v{version} are not opened: their (http|models):"
        ):
            registry.download("tiny_ranker", version, tmp_path / "copy")
    _update(registry, 6, "models:/tiny_ranker/1")
    found = registry.download("tiny_ranker", 6, tmp_path / "copy")
    assert (found / "model.onnx").read_bytes() == (models["good"] / "model.onnx").read_bytes()
    assert asked == []


@pytest.mark.parametrize(
    ("place", "opened"),
    [
        ("mlflow-artifacts:/1/models/m-1/artifacts", True),
        ("s3://bucket/mlflow/1", True),
        ("mlflow-artifacts://evil.example/1", False),
        ("mlflow-artifacts:/../1", False),
        ("https://mlflow.example/api/2.0/mlflow-artifacts/artifacts/1", False),
        ("s3://bucket/mlflow-other/1", False),
    ],
)
def test_a_server_hands_out_its_own_files(place: str, opened: bool) -> None:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    client = create_autospec(MlflowClient, instance=True)
    client.get_model_version_download_uri.return_value = place
    ask = (client, ModelVersion("tiny_ranker", "1", 0), "https://mlflow.example", "s3://bucket/mlflow")
    if opened:
        assert location(*ask) == place
        return
    with pytest.raises(BadInputError, match=r"outside the configured roots \(s3://bucket/mlflow, mlflow-artifacts:/\)"):
        location(*ask)


def _update(registry: Registry, version: int, source: str) -> None:
    """Register a version and write into the database where its files lie, as MLflow itself would follow the URI."""
    import sqlite3
    from contextlib import closing

    from registry.versions.database import sqlite_file

    _move(registry, "s3://bucket/model")
    file = sqlite_file(registry.tracking_uri)
    assert file is not None
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("update model_versions set storage_location = ? where version = ?", (source, version))


def test_a_configured_root_may_be_anywhere(home: Settings, models: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = (tmp_path / "other files").as_uri()
    put(Registry(home.tracking_uri, elsewhere), models["good"], "d1")
    with pytest.raises(BadInputError, match="set RANKMILL_MLFLOW_ARTIFACTS to the place"):
        Registry(home.tracking_uri, home.mlflow_artifacts).download("tiny_ranker", 1, tmp_path / "copy")
    Registry(home.tracking_uri, elsewhere).download("tiny_ranker", 1, tmp_path / "copy")
