"""What does a run say when a server of the production set is gone, and is the champion still there afterwards?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import pytest

from tests.services.conftest import World
from tests.services.servers import Servers, free_port

pytestmark = [pytest.mark.services, pytest.mark.timeout(2400)]


@dataclass(frozen=True)
class Champion:
    """What must not change: the alias, and the ledger's objects with their bytes."""

    version: str
    ledger: dict[str, bytes]


def champion(servers: Servers) -> Champion:
    address = f"{servers.mlflow_url}/api/2.0/mlflow/registered-models/alias?name=movielens_ranker&alias=champion"
    found: Any = json.load(urlopen(address, timeout=30))
    return Champion(str(found["model_version"]["version"]), servers.objects("rankmill/ledger/"))


@pytest.fixture(scope="module")
def made(world: World) -> Champion:
    """The champion of a run that went well: one of another file of tests, or a new one."""
    if world.servers.objects("rankmill/ledger/"):
        return champion(world.servers)
    done = world.rankmill("run", str(world.pipeline), "--profile", str(world.profile))
    assert done.returncode == 0, done.stdout + done.stderr
    return champion(world.servers)


@pytest.fixture
def unharmed(world: World, made: Champion) -> Iterator[None]:
    """After the test, the champion is who it was, and the next run goes well."""
    yield
    assert champion(world.servers) == made


def failed(world: World, *arguments: str) -> str:
    """Run, and return the sentence that it failed with; there is no traceback and no password."""
    done = world.rankmill("run", str(world.pipeline), "--profile", str(world.profile), *arguments)
    said = done.stdout + done.stderr
    assert done.returncode not in (0, 1), said
    assert "Traceback" not in said, said
    assert not [secret for secret in (*world.servers.secrets, "sesame") if secret in said]
    lines = [line for line in said.splitlines() if " failed: " in line]
    return lines[0] if lines else said.strip().splitlines()[-1]


@pytest.mark.usefixtures("unharmed")
def test_redis_is_down(world: World) -> None:
    world.servers.stop("redis")
    try:
        said = failed(world, "--from", "features")
    finally:
        world.servers.start_redis()
    assert said == (
        f"features failed: a server of the online store {world.feature_store} does not answer: Error 111 connecting to "
        f"127.0.0.1:{world.servers.port['redis']}. Connection refused; start it, or correct where it is"
    )


@pytest.mark.usefixtures("unharmed")
def test_the_bucket_is_not_there(world: World) -> None:
    said = failed(world.differing(RANKMILL_PROD_ARTIFACTS="s3://absent/artifacts"))
    assert said.startswith("ingest failed: cannot publish ingest_table to s3://absent/artifacts/ingest_table/")
    assert said.endswith(
        ": The specified bucket does not exist; nothing was published, free space or fix the store and run again"
    )


@pytest.mark.parametrize(
    ("key", "secret", "reason"),
    [
        ("AKstranger", "sk-of-a-stranger", "Access Denied"),
        ("", "sesame", "The request signature we calculated does not match the signature you provided. Check your key"),
    ],
    ids=["no rights", "wrong secret"],
)
@pytest.mark.usefixtures("unharmed")
def test_the_bucket_is_denied(world: World, key: str, secret: str, reason: str) -> None:
    other = world.differing(RANKMILL_PROD_S3_SECRET=secret, **({"RANKMILL_PROD_S3_KEY": key} if key else {}))
    said = failed(other)
    assert said.startswith(f"s3://rankmill/rankmill/artifacts refuses: {reason}")
    assert said.endswith("; correct the keys, what they allow, or RANKMILL_ARTIFACTS")


@pytest.mark.usefixtures("unharmed")
def test_the_ledger_is_denied_after_everything_else_went_well(world: World) -> None:
    said = failed(world.differing(RANKMILL_PROD_LEDGER="s3://absent/ledger"), "--from", "register")
    assert said == (
        "promote failed: cannot write the ledger of 'movielens_ranker' at s3://absent/ledger: "
        "The specified bucket does not exist; fix the store and run again"
    )


@pytest.mark.usefixtures("unharmed")
def test_the_object_store_does_not_answer(world: World) -> None:
    said = failed(world.differing(RANKMILL_PROD_S3_ENDPOINT=f"http://127.0.0.1:{free_port()}"))
    assert said.startswith("s3://rankmill/rankmill/artifacts does not answer: Could not connect to the endpoint URL: ")
    assert said.endswith("; start it, or correct RANKMILL_ARTIFACTS")


@pytest.mark.usefixtures("unharmed")
def test_mlflow_does_not_answer(world: World) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    other = world.differing(AIRFLOW_CONN_MLFLOW=f"http://rankmill:sesame@{nobody}")
    assert failed(other, "--from", "register") == (
        f"register failed: the MLflow server http://***@{nobody} does not answer: Connection refused; "
        "start it and run again"
    )


@pytest.mark.usefixtures("unharmed")
def test_postgres_is_down(world: World) -> None:
    """MLflow says so, then Feast's registry, then Airflow."""
    world.servers.stop("postgres")
    try:
        models = world.rankmill("--profile", str(world.profile), "models")
        materialising = failed(world, "--from", "features")
        ui = world.rankmill("--profile", str(world.profile), "ui", "--airflow-port", str(free_port()))
    finally:
        world.servers.start_postgres()
    assert models.returncode == 75 and models.stderr.strip().splitlines()[-1] == (
        f"the MLflow server http://***@127.0.0.1:{world.servers.port['mlflow']} does not answer: "
        "too many 503 error responses; start it and run again"
    )
    where = f'connection to server at "127.0.0.1", port {world.servers.port["postgres"]} failed: Connection refused'
    assert materialising == (
        f"features failed: a server of the online store {world.feature_store} does not answer: "
        f"(psycopg2.OperationalError) {where}; start it, or correct where it is"
    )
    assert ui.returncode == 75 and "Traceback" not in ui.stdout + ui.stderr
    own = f"postgresql+psycopg2://***@127.0.0.1:{world.servers.port['postgres']}/airflow"
    assert f"cannot prepare Airflow's database {own}: " in ui.stderr and where in ui.stderr
    assert world.servers.password not in ui.stdout + ui.stderr


def test_the_next_run_goes_well_and_fills_a_redis_that_lost_everything(world: World, made: Champion) -> None:
    held = world.servers.redis().dbsize()
    world.servers.redis().flushall()
    done = world.rankmill("run", str(world.pipeline), "--profile", str(world.profile))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 cached" in done.stdout, "nothing is computed again for it"
    assert world.servers.redis().dbsize() == held > 0
    assert champion(world.servers).version == made.version
