"""How do the servers of the production set start on loopback, and end with the tests that use them?

Everything lies in one temporary folder and listens on free ports of 127.0.0.1. Each server is a
`ProcessTree`, so that none outlives the tests, even where they are killed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

from components.platform.process_tree import ProcessTree
from tests.services.packages import program

HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds until a server must answer."""
BUCKET = "rankmill"
REGION = "us-east-1"
TOOLS = Path(sys.executable).parent
UNTOUCHED = ("PATH", "HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS")


def free_port() -> int:
    """Return a port that nobody listens on, whose number leaves room for SeaweedFS' gRPC ports, 10,000 above."""
    while True:
        with socket.socket() as probe, socket.socket() as above:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
            if port + 10_000 < 65_536:
                above.bind((HOST, port + 10_000))
                return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@dataclass
class Servers:
    """PostgreSQL, Redis, SeaweedFS, MLflow and a Ray head; secrets are new each time.

    Attributes:
        folder: data and logs of all of them.
        password: of PostgreSQL, Redis and, as part of its address, MLflow.
        key: access key of the object store's only identity that may do anything.
        secret: its secret.
        token: of the Ray head.
        port: of each server, by its name.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp")))
    password: str = field(default_factory=lambda: f"pw{secrets.token_hex(12)}")
    key: str = field(default_factory=lambda: f"AK{secrets.token_hex(8)}")
    secret: str = field(default_factory=lambda: f"sk{secrets.token_hex(16)}")
    token: str = field(default_factory=lambda: f"tk{secrets.token_hex(16)}")
    port: dict[str, int] = field(default_factory=dict)
    _trees: dict[str, ProcessTree] = field(default_factory=dict)

    def __enter__(self) -> Self:
        # PostgreSQL's own user must reach its folder.
        self.folder.chmod(0o711)
        try:
            for start in (self.start_postgres, self.start_redis, self.start_s3, self.start_mlflow, self.start_ray):
                start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed([*self._trees]):
            self.stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be found nowhere."""
        return self.password, self.secret, self.token

    def stop(self, name: str) -> None:
        """End a server, its data kept."""
        self._trees.pop(name).end()

    def postgres_url(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg2://rankmill:{self.password}@{HOST}:{self.port['postgres']}/{database}"

    @property
    def s3_url(self) -> str:
        return f"http://{HOST}:{self.port['s3']}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{HOST}:{self.port['mlflow']}"

    @property
    def ray_url(self) -> str:
        return f"http://{HOST}:{self.port['ray']}"

    def s3_environment(self, key: str = "", secret: str = "") -> dict[str, str]:
        """What boto3 and s3fs read."""
        return {
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_ACCESS_KEY_ID": key or self.key,
            "AWS_SECRET_ACCESS_KEY": secret or self.secret,
            "AWS_DEFAULT_REGION": REGION,
        }

    def start_postgres(self) -> None:
        """Start PostgreSQL with one database for Airflow's metadata, one for MLflow's and one for Feast's registry."""
        data = self.folder / "postgres"
        port = self.port.setdefault("postgres", free_port())
        other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        fresh = not data.exists()
        if fresh:
            data.mkdir()
            password = self.folder / "postgres.password"
            password.write_text(self.password)
            if other:
                for path in (data, password):
                    shutil.chown(path, "postgres", "postgres")
            options = ["-D", str(data), "-U", "rankmill", "--auth=scram-sha-256", f"--pwfile={password}", "-E", "UTF8"]
            self._run([*other, program("initdb"), *options, "--no-sync"])
            password.unlink()
        options = ["-D", str(data), "-p", str(port), "-h", HOST, "-k", str(data), "-c", "fsync=off"]
        self._start("postgres", [*other, program("postgres"), *options], lambda: self.query("postgres", "select 1"))
        for database in ("airflow", "mlflow", "feast") if fresh else ():
            self.query("postgres", f"create database {database}")

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        import psycopg2

        where = f"host={HOST} port={self.port['postgres']} user=rankmill password={self.password} dbname={database}"
        try:
            connection = psycopg2.connect(where)
        except psycopg2.OperationalError as error:
            raise ConnectionError(str(error)) from None
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def start_redis(self) -> None:
        """Start Redis; it asks for the password, and keeps what it holds when it is stopped."""
        port = self.port.setdefault("redis", free_port())
        config = self.folder / "redis.conf"
        config.write_text(
            f'bind {HOST}\nport {port}\nsave ""\nappendonly yes\ndir {self.folder}\nrequirepass {self.password}\n'
        )
        config.chmod(0o600)
        self._start("redis", [program("redis-server"), str(config)], lambda: self.redis().ping())

    def redis(self) -> Any:
        """A client of the server."""
        from redis import Redis

        return Redis(HOST, self.port["redis"], password=self.password)

    def start_s3(self) -> None:
        """Start SeaweedFS with two identities: one that may do everything, and a stranger, who may do nothing here."""
        port, master, filer, volume = (free_port() for _ in range(4))
        port = self.port.setdefault("s3", port)
        data, config = self.folder / "s3", self.folder / "s3.json"
        data.mkdir(exist_ok=True)
        stranger = {"accessKey": "AKstranger", "secretKey": "sk-of-a-stranger"}
        identities = [
            {
                "name": "rankmill",
                "credentials": [{"accessKey": self.key, "secretKey": self.secret}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {"name": "stranger", "credentials": [stranger], "actions": ["Read:other", "List:other"]},
        ]
        config.write_text(json.dumps({"identities": identities}))
        config.chmod(0o600)
        options = {
            "dir": data, "ip": HOST, "ip.bind": HOST, "master.port": master, "master.port.grpc": master + 10_000,
            "master.telemetry": "false", "master.volumeSizeLimitMB": 64, "volume.port": volume,
            "volume.port.grpc": volume + 10_000, "volume.max": 20, "filer": "true", "filer.port": filer,
            "filer.port.grpc": filer + 10_000, "filer.localSocket": self.folder / "filer.sock", "s3": "true",
            "s3.port": port, "s3.port.grpc": port + 10_000, "s3.config": config, "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false",
        }  # fmt: skip
        command = [str(TOOLS / "weed"), "-logtostderr=true", "server", *(f"-{k}={v}" for k, v in options.items())]
        self._start("s3", command, self._has_bucket)

    def _has_bucket(self) -> bool:
        s3 = self.s3()
        if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="probe", Body=b"?")
        s3.delete_object(Bucket=BUCKET, Key="probe")
        return True

    def s3(self) -> Any:
        """A client of the object store."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.s3_url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=REGION,
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20),
        )

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Every object below a prefix."""
        pages = self.s3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return {key: self.s3().get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def start_mlflow(self) -> None:
        """Start MLflow's server: runs and models in PostgreSQL, files in the bucket, which its clients never see."""
        port = self.port.setdefault("mlflow", free_port())
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
            *("--artifacts-destination", f"s3://{BUCKET}/mlflow"),
        ]
        environment = self.s3_environment() | {
            "MLFLOW_BACKEND_STORE_URI": self.postgres_url("mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self._start("mlflow", command, lambda: urlopen(f"{self.mlflow_url}/health", timeout=5), environment)

    def start_ray(self) -> None:
        """Start the head of a Ray cluster, which takes jobs."""
        port, own = self.port.setdefault("ray", free_port()), self.folder / "ray"
        options = {
            "port": free_port(), "dashboard-host": HOST, "dashboard-port": port, "include-dashboard": "true",
            "num-cpus": 2, "temp-dir": own, "node-ip-address": HOST, "object-store-memory": 200_000_000,
            "ray-client-server-port": free_port(), "dashboard-agent-listen-port": free_port(),
        }  # fmt: skip
        command = [str(TOOLS / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
        environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0"}
        self._start("ray", [*command, *(f"--{k}={v}" for k, v in options.items())], self._takes_jobs, environment)

    def _takes_jobs(self) -> bool:
        return self.ray_jobs() is not None

    def ray_jobs(self) -> Any:
        """What the head says about its jobs, to who has the token."""
        asked = Request(f"{self.ray_url}/api/jobs/", headers={"Authorization": f"Bearer {self.token}"})
        return json.load(urlopen(asked, timeout=20))

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(
        self, name: str, command: list[str], healthy: Callable[[], Any], more: Mapping[str, str] | None = None
    ) -> None:
        """Start a server and wait until it is healthy.

        Raises:
            RuntimeError: it ended, or did not answer in time; the message holds the end of its log.
        """
        own = {variable: os.environ[variable] for variable in UNTOUCHED if variable in os.environ}
        self._trees[name] = tree = ProcessTree(command, log=self.log(name), env=own | dict(more or {}), grace=8)
        until = time.monotonic() + PATIENCE
        said: object = ""
        while time.monotonic() < until and tree.poll() is None:
            try:
                if healthy() is not False:
                    return
            except Exception as error:  # whatever its client raises while nobody answers yet
                said = error
            time.sleep(0.3)
        end = "\n".join(self.log(name).read_text(errors="replace").splitlines()[-30:])
        state = "did not become healthy" if tree.poll() is None else f"ended with status {tree.poll()}"
        raise RuntimeError(f"{name} {state}: {said}\n{end}")

    @staticmethod
    def _run(command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name}: {done.stdout}{done.stderr}")
