"""Does a pipeline run where every store is a server, and does none of it hold a password afterwards?"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import polars as pl
import pytest

from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from tests.local_servers import ask_airflow, wait_for
from tests.services.conftest import RANKMILL, World
from tests.services.packages import program
from tests.services.servers import BUCKET, HOST, Servers, free_port

pytestmark = [pytest.mark.services, pytest.mark.timeout(2400)]
STAGES = ("ingest", "contract", "features", "dataset", "train", "export", "evaluate", "register", "promote")
CACHED = STAGES[:7]
"""Stages whose result depends on their inputs only; the registry and the gate are asked every time."""
MODEL = "movielens_ranker"


@pytest.fixture(scope="module")
def first(world: World) -> str:
    """What the first run said."""
    done = world.rankmill("run", str(world.pipeline), "--profile", str(world.profile))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def second(world: World, first: str) -> str:
    """What the same command said when nothing had changed."""
    done = world.rankmill("run", str(world.pipeline), "--profile", str(world.profile))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def scheduled(world: World, second: str) -> Iterator[str]:
    """Output of `rankmill ui` after Airflow's scheduler has run the pipeline once, with PostgreSQL as its database."""
    port, output = free_port(), world.folder / "ui.out"
    with output.open("w") as stream:
        command = [
            *RANKMILL,
            "--profile",
            str(world.profile),
            "ui",
            "--airflow-port",
            str(port),
            "--mlflow-port",
            str(free_port()),
        ]
        process = subprocess.Popen(
            command, env=world.environment, cwd=world.folder, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        assert wait_for(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, 400)
        assert process.poll() is None, output.read_text()
        ask = partial(ask_airflow, port, world.home / "airflow" / "passwords.json")
        assert wait_for(
            lambda: "movielens_daily" in [dag["dag_id"] for dag in ask("GET", "/dags?limit=100")["dags"]], 240
        )
        ask("PATCH", "/dags/movielens_daily", {"is_paused": False})  # and the day's run begins
        assert wait_for(lambda: world.servers.query("airflow", ENDED), 900)
        yield output.read_text()
    finally:
        process.terminate()
        process.wait(60)


ENDED = "select state from dag_run where dag_id = 'movielens_daily' and state in ('success', 'failed')"


def test_every_stage_runs_and_the_second_time_none_that_is_cached(first: str, second: str) -> None:
    assert re.search(r"9 of 9 stages done, 0 cached", first)
    assert re.search(r"9 of 9 stages done, 7 cached", second)
    assert [stage for stage in STAGES if re.search(rf"✔ {stage} +cached", second)] == list(CACHED)
    assert "champion v1 (was none)" in first and "champion v1 unchanged" in second


def test_the_server_of_mlflow_knows_the_champion_and_keeps_its_files_in_the_bucket(
    servers: Servers, second: str
) -> None:
    aliases = servers.query("mlflow", "select name, alias, version from registered_model_aliases order by alias")
    assert aliases == [(MODEL, "challenger", 1), (MODEL, "champion", 1)]
    logged = ask_mlflow(servers, f"model-versions/get?name={MODEL}&version=1")["model_version"]["source"]
    folder = logged.removeprefix("models:/")
    files = {key.rpartition("/")[2] for key in servers.objects("mlflow/") if f"/{folder}/" in key}
    assert {"model.onnx", "contract.json", "encoder.json", "vocabularies.arrow", "seal.json"} <= files
    epochs = servers.query("mlflow", "select count(distinct step) from metrics where key = 'validation_like_auc'")
    assert epochs == [(4,)]


def test_artifacts_and_ledger_lie_in_the_bucket(servers: Servers, second: str) -> None:
    objects = servers.objects("rankmill/artifacts/")
    stages = [json.loads(body) for key, body in objects.items() if key.endswith("/stage.json")]
    made = [stage["made_by"] for stage in stages]
    assert sorted(set(made)) == sorted(f"movielens_daily.{stage}" for stage in STAGES)
    assert [made.count(f"movielens_daily.{stage}") for stage in CACHED] == [1] * len(CACHED)
    uris = {ref["uri"] for stage in stages for ref in stage["outputs"].values()}
    assert all(uri.startswith(f"s3://{BUCKET}/rankmill/artifacts/") for uri in uris)
    entries = servers.objects(f"rankmill/ledger/{MODEL}/")
    actions = [json.loads(entries[key])["action"] for key in sorted(entries)]
    assert actions == ["promoting", "promoted", "unchanged"]


def test_of_writers_of_the_ledger_in_the_bucket_one_wins(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from registry.champion.ledger import Ledger, LostRaceError, Note

    for name, value in servers.s3_environment().items():
        monkeypatch.setenv(name, value)
    ledger = Ledger(f"s3://{BUCKET}/race")
    assert ledger.entries("shop") == ()

    def write(number: int) -> bool:
        try:
            ledger.append(Note(action="unchanged", model="shop", version=number, digest=""), after=0)
        except LostRaceError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [False] * 7 + [True]
    assert len(ledger.entries("shop")) == 1


def test_redis_serves_what_the_feature_tables_hold(
    world: World, second: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from features.definitions.movielens import ACTIVITY_LIFE
    from features.joins.histories import listed, read_table
    from features.joins.online import asked_at
    from features.joins.store import open_shared

    servers = world.servers
    for name, value in servers.s3_environment().items():
        monkeypatch.setenv(name, value)
    stages = servers.objects("rankmill/artifacts/materialize_features/")
    (made,) = [json.loads(body) for key, body in stages.items() if key.endswith("/stage.json")]
    store = open_store(replace(Settings.at(tmp_path / "home"), artifacts=f"s3://{BUCKET}/rankmill/artifacts"))
    tables = store.fetch(ArtifactRef.model_validate(made["outputs"]["feature_tables"]).load())
    frame = pl.DataFrame(listed(read_table(tables / "user_activity.parquet"))).sort("event_timestamp")
    names = [n for n in frame.columns if n not in ("user_id", "event_timestamp", "created_timestamp")]
    newest = frame.unique("user_id", keep="last", maintain_order=True).sort("user_id").head(50)

    environment = world.environment
    monkeypatch.setenv("RANKMILL_FEATURE_STORE", str(world.feature_store))
    monkeypatch.setenv("RANKMILL_FEAST_REDIS", environment["RANKMILL_PROD_REDIS"])
    monkeypatch.setenv("RANKMILL_FEAST_REGISTRY", environment["RANKMILL_PROD_FEAST_REGISTRY"])
    online = open_shared(tmp_path / "feast")
    end = frame["event_timestamp"].max()
    assert isinstance(end, datetime)
    with asked_at(end):  # by now all are older than the view's TTL
        answer = online.get_online_features(
            features=[f"user_activity:{name}" for name in names],
            entity_rows=[{"user_id": user} for user in newest["user_id"].to_list()],
        ).to_dict()
    expired = pl.col("event_timestamp") < end - ACTIVITY_LIFE
    assert 0 < newest.filter(expired).height < newest.height
    served = newest.select(pl.when(~expired).then(pl.col(name)).alias(name) for name in names)
    assert [answer[name] for name in names] == [served[name].to_list() for name in names]
    assert servers.redis().dbsize() >= frame["user_id"].n_unique()
    assert servers.query("feast", "select count(*) from feature_views")[0][0] > 0, "the registry is PostgreSQL's"


def test_training_was_a_job_of_the_ray_head(servers: Servers, second: str) -> None:
    jobs = servers.ray_jobs()
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"{servers.ray_url}/api/jobs/", timeout=20)
    assert [(job["submission_id"][:15], job["status"]) for job in jobs] == [("rankmill-train-", "SUCCEEDED")]


def test_airflow_keeps_its_runs_in_postgres(servers: Servers, scheduled: str) -> None:
    assert servers.query("airflow", ENDED) == [("success",)]
    tasks = servers.query("airflow", "select task_id, state from task_instance where dag_id = 'movielens_daily'")
    assert sorted(tasks) == sorted((stage, "success") for stage in STAGES)


def test_nothing_that_is_kept_holds_a_password(
    world: World, servers: Servers, first: str, second: str, scheduled: str
) -> None:
    commands = (["plan", "movielens_daily"], ["models"], ["profiles", str(world.profile)], ["doctor"], ["runs"])
    said = [first, second, scheduled]
    for command in commands:
        done = world.rankmill("--profile", str(world.profile), *command)
        said += [done.stdout, done.stderr]
    environment = os.environ | {"PGPASSWORD": servers.password}
    for database in ("airflow", "mlflow", "feast"):
        where = ["-h", HOST, "-p", str(servers.port["postgres"]), "-U", "rankmill", database]
        dump = subprocess.run([program("pg_dump"), *where], env=environment, capture_output=True, text=True, check=True)
        assert "CREATE TABLE" in dump.stdout
        said.append(dump.stdout)
    # The two files that tell servers their own passwords are readable by their owner only.
    own = {servers.folder / "redis.conf", servers.folder / "s3.json"}
    paths = [Path(where) / name for where, _, names in os.walk(servers.folder) for name in names]
    for secret in servers.secrets:
        assert [text[max(0, text.find(secret) - 200) :][:400] for text in said if secret in text] == []
        held = {path for path in paths if path.is_file() and secret.encode() in path.read_bytes()}
        assert held <= own
        assert [key for key, body in servers.objects().items() if secret.encode() in body] == []
    logs = [path for path in paths if path.name == "run.log"]
    assert logs and all(path.stat().st_size for path in logs)


def ask_mlflow(servers: Servers, what: str) -> Any:
    return json.load(urlopen(f"{servers.mlflow_url}/api/2.0/mlflow/{what}", timeout=30))
