"""How does a test run `rankmill serve` as a user does? A shop with a champion, features in an online store, a process.

Everything lies in one home: MLflow's database with the champion, and Feast's online store with what is known of
shoppers and goods. Questions tell who asks, for which goods, and the age band; the store knows the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.platform.settings import Settings
from features.services.served import FEATURES, ServedColumn, ServedFeatures
from registry.serving.model.contract import ParityReport
from tests.local_servers import HOST, free_port
from tests.worlds import DTYPES, SIDES

ROOT = Path(__file__).resolve().parent.parent
MODEL = "shop"
URL = f"/v2/models/{MODEL}/infer"
USERS, ITEMS = 20, 200
WRITTEN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
"""When the values of the store happened."""
SOURCES = {"user": ("shopper", "user_id"), "item": ("goods", "item_id")}


def served_features() -> ServedFeatures:
    """Return where the columns of the world of `tests.worlds` come from."""
    columns = [ServedColumn(name="event_timestamp", dtype="unix_timestamp")]
    for name, dtype in DTYPES.items():
        view, key = SOURCES[SIDES[name]] if name in SIDES and not name.endswith("_id") else (None, "")
        columns.append(ServedColumn(name=name, dtype=dtype, view=view, keys=(key,) if key else ()))
    return ServedFeatures(service=MODEL, definitions="d", columns=tuple(sorted(columns, key=lambda each: each.name)))


def definitions() -> Any:
    """Return the Feast definitions of shoppers and goods."""
    from feast import Entity, FeatureService, FeatureView, Field, ValueType
    from feast.types import Array, Float32, Float64, Int64, String

    from features.definitions import Definitions
    from features.definitions.common import NEVER, source

    types = {
        "int64": Int64, "float64": Float64, "array<string>": Array(String), "array<int64>": Array(Int64),
        "array<float32>": Array(Float32),
    }  # fmt: skip
    views, entities = [], []
    for side, (view, key) in SOURCES.items():
        entities.append(Entity(name=view, join_keys=[key], value_type=ValueType.INT64))
        names = [name for name, of in SIDES.items() if of == side and not name.endswith("_id")]
        fields = [Field(name=key, dtype=Int64), *(Field(name=name, dtype=types[DTYPES[name]]) for name in names)]
        views.append(
            FeatureView(name=view, entities=[entities[-1]], ttl=NEVER, source=source(view, "A test's."), schema=fields)
        )
    return Definitions(
        entities=tuple(entities), views=tuple(views), services=(FeatureService(name=MODEL, features=views),), recipes={}
    )


def write_features(folder: Path, generation: int, at: datetime = WRITTEN) -> Path:
    """Write what is known of everybody and everything, so that each value tells its generation."""
    folder.mkdir(parents=True, exist_ok=True)
    for view, key, count in (("shopper", "user_id", USERS), ("goods", "item_id", ITEMS)):
        ids = np.arange(1, count + 1)
        moments = pa.array([at] * count, pa.timestamp("us", "UTC"))
        columns: dict[str, pa.Array] = {key: pa.array(ids), "event_timestamp": moments, "created_timestamp": moments}
        if view == "goods":
            columns["popularity"] = pa.array(np.full(count, float(generation)))
            columns["genres"] = pa.array([["drama"] * (generation % 5)] * count, pa.list_(pa.string()))
        else:
            for name in ("recent_items", "recent_likes", "recent_times"):
                columns[name] = pa.array([[1] * (generation % 5)] * count, pa.list_(pa.int64()))
            columns["taste"] = pa.array([[float(generation)] * 3] * count, pa.list_(pa.float32()))
        pq.write_table(pa.table(columns), folder / f"{view}.parquet")
    return folder


def materialise(settings: Settings, folder: Path, at: datetime = WRITTEN) -> None:
    """Write the features of a folder into the online store, as the component does."""
    from features.joins.store import materialize

    span = (at - timedelta(hours=1), at + timedelta(seconds=1))
    for _ in materialize(settings.feast, folder, ["shopper", "goods"], [span], definitions()):
        pass


def crown(settings: Settings, model: Path, scratch: Path) -> int:
    """Register a folder of `model_of` as a version that tells its features, make it champion; return its number."""
    from registry.versions.client import CHAMPION, Registry

    whole = scratch / f"version-of-{model.name}"
    shutil.copytree(model, whole)
    (whole / FEATURES).write_text(served_features().model_dump_json())
    parity = ParityReport(passed=True, tolerance=0.0, provider="CPUExecutionProvider", cases=())
    (whole / "parity.json").write_text(parity.model_dump_json())
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    digest = f"{model.name:0<64}"[:64]
    version = registry.register(whole, MODEL, digest=digest, ranker_digest="r", report_digest="none")
    registry.set_alias(MODEL, CHAMPION, version.version)
    return version.version


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return a shell in which the home is the shop's."""
    own = ("AIRFLOW", "MLFLOW", "RANKMILL", "PROMETHEUS", "FEAST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | settings.environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more


def question(items: tuple[int, ...] = (3, 1, 2), user: int = 7, name: str = "") -> dict[str, Any]:
    """Return a question in JSON."""
    tensors = [("user_id", "INT64", [user]), ("item_id", "INT64", [*items]), ("age_band", "BYTES", ["35_plus"])]
    inputs = [{"name": key, "shape": [len(data)], "datatype": kind, "data": data} for key, kind, data in tensors]
    return {"inputs": inputs} | ({"id": name} if name else {})


@dataclass
class Served:
    """A running `rankmill serve`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    headers: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def client(self, timeout: float = 60) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=dict(self.headers), timeout=timeout)

    def ask(self, asked: dict[str, Any] | None = None) -> httpx.Response:
        """Ask over a connection of its own."""
        with self.client() as client:
            return client.post(URL, json=asked or question())

    def until(self, condition: Callable[[], Any], seconds: float = 120) -> Any:
        """Wait until something holds, and show the service's log where it does not come."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"it did not come to pass, status {self.process.poll()}\n{self.said()[-4000:]}")
            time.sleep(0.05)
        return found

    def ready(self) -> bool:
        return self.answers("/v2/health/ready") == 200

    def answers(self, path: str) -> int:
        """Return the status that an address answers with, 0 where nobody listens."""
        try:
            with self.client(timeout=10) as client:
                return client.get(path).status_code
        except httpx.HTTPError:
            return 0

    def counts(self) -> dict[str, float]:
        """Return every number of `/metrics` by its name."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        parts = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in parts}

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer, but for the first one."""
        return [child for child in _children(self.process.pid) if "spawn_main" in _words(child)]

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def messages(self) -> list[dict[str, Any]]:
        """Return what was logged as JSON lines."""
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]

    def stop(self) -> int:
        """End it as a supervisor does, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(
    settings: Settings, scratch: Path, *, env: Mapping[str, str] | None = None, **changes: Any
) -> Iterator[Served]:
    """Run a service of the shop and wait until it is ready.

    Args:
        settings: the shop's home.
        scratch: folder for its file and its log.
        env: more variables.
        changes: parts of its file; times are long, because a busy machine is no reason to refuse.
    """
    with starting(settings, scratch, env=env, **changes) as served:
        served.until(served.ready)
        yield served


@contextmanager
def starting(
    settings: Settings,
    scratch: Path,
    *,
    env: Mapping[str, str] | None = None,
    words: tuple[str, ...] = (),
    **changes: Any,
) -> Iterator[Served]:
    """Run a service of the shop; see `serving`."""
    port = free_port()
    whole: dict[str, Any] = {
        "name": MODEL,
        "model": MODEL,
        "provider": "cpu",
        "follow": {"every": "1s"},
        "features": {"timeout": "20s"},
        "limits": {"timeout": "30s"},
    }
    for key, value in changes.items():
        whole[key] = whole.get(key, {}) | value if isinstance(value, dict) else value
    whole["listen"] = {"port": port} | whole.get("listen", {})
    scratch.mkdir(parents=True, exist_ok=True)
    file, log = scratch / f"{MODEL}.yaml", scratch / f"serve-{port}.log"
    file.write_text(yaml.safe_dump(whole), encoding="utf-8")
    command = [sys.executable, "-c", "from pipelines.cli.main import main; main()", "serve", str(file), *words]
    shell = environment(settings, **(env or {}))
    with log.open("wb") as written:
        process = subprocess.Popen(command, env=shell, cwd=scratch, stdout=written, stderr=subprocess.STDOUT)
    token = (env or {}).get("SHOP_TOKEN") if "token" in whole["listen"] else None
    served = Served(process, port, log, {"Authorization": f"Bearer {token}"} if token else {})
    try:
        yield served
    finally:
        tree = [process.pid, *(child.pid for child in _children(process.pid))]
        for pid in tree:
            _kill(pid)
        process.wait(30)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
