"""The production set, started once, and a world whose every store is one of its servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.services.servers import BUCKET, HOST, Servers

ROOT = Path(__file__).resolve().parents[2]
RANKMILL = [sys.executable, "-c", "from pipelines.cli.main import main; main()"]
PROFILE = ROOT / "pipelines" / "profiles" / "prod.yaml"
FEATURE_STORE = ROOT / "docs" / "deploy" / "feature_store.yaml"


@dataclass(frozen=True)
class World:
    """A worker of the production set: `prod.yaml` with folders of this machine, and the variables that it refers to.

    Attributes:
        folder: what would be /var/lib/rankmill, and the profile.
        servers: where everything else is.
        more: variables that differ.
    """

    folder: Path
    servers: Servers
    data: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def profile(self) -> Path:
        return self.folder / "production.yaml"

    @property
    def environment(self) -> dict[str, str]:
        """What an operator sets: references of the profile, and nothing that the profile sets itself."""
        own = ("AIRFLOW", "RANKMILL", "MLFLOW", "AWS", "FEAST", "RAY_AUTH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        servers = self.servers
        bucket = f"s3://{BUCKET}/rankmill"
        return (
            kept
            | {
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "200",
                "RANKMILL_DATA": str(self.data),
                "RANKMILL_PROD_ARTIFACTS": f"{bucket}/artifacts",
                "RANKMILL_PROD_LEDGER": f"{bucket}/ledger",
                "RANKMILL_PROD_RAY": servers.ray_url,
                "RANKMILL_PROD_RAY_TOKEN": servers.token,
                "RANKMILL_PROD_AIRFLOW_DATABASE": servers.postgres_url("airflow"),
                "RANKMILL_PROD_FEAST_REGISTRY": servers.postgres_url("feast"),
                "RANKMILL_PROD_REDIS": f"{HOST}:{servers.port['redis']},password={servers.password}",
                "RANKMILL_PROD_S3_ENDPOINT": servers.s3_url,
                "RANKMILL_PROD_S3_KEY": servers.key,
                "RANKMILL_PROD_S3_SECRET": servers.secret,
                "AIRFLOW_CONN_MLFLOW": servers.mlflow_url.replace("://", f"://rankmill:{servers.password}@"),
            }
            | self.more
        )

    @property
    def pipeline(self) -> Path:
        """`movielens_daily` without its retries, which wait for minutes."""
        return self.folder / "movielens_daily.yaml"

    @property
    def feature_store(self) -> Path:
        return FEATURE_STORE

    def write_files(self) -> None:
        """Write the profile and the pipeline."""
        self.write_profile()
        text = (ROOT / "pipelines" / "movielens_daily.yaml").read_text(encoding="utf-8")
        patient, hasty = "{retries: 2, retry_delay: 5m, timeout: 1h}", "{retries: 0, timeout: 1h}"
        assert text.count(patient) == 1
        self.pipeline.write_text(text.replace(patient, hasty), encoding="utf-8")
        shutil.copytree(ROOT / "pipelines" / "shared", self.folder / "shared", dirs_exist_ok=True)

    def write_profile(self) -> None:
        """Write `prod.yaml` with folders of this machine, and without the GPUs that it does not have."""
        text = PROFILE.read_text(encoding="utf-8")
        for shipped, here in (
            ("home: /var/lib/rankmill ", f"home: {self.home} "),
            ("config: /etc/rankmill/feature_store.yaml", f"config: {FEATURE_STORE}"),
            ("name: prod\n", "name: production\n"),
            ("device: cuda\nprovider: cuda\nresources: {gpus: 2, threads: 8}", "resources: {threads: 1}"),
        ):
            assert text.count(shipped) == 1, shipped
            text = text.replace(shipped, here)
        self.profile.write_text(text, encoding="utf-8")

    def differing(self, **more: str) -> World:
        """The same world with other variables."""
        return replace(self, more=self.more | more)

    def rankmill(self, *arguments: str, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RANKMILL, *arguments], env=self.environment, cwd=self.folder, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with Servers() as servers:
        yield servers


@pytest.fixture(scope="session")
def world(servers: Servers, movielens_raw: Path) -> Iterator[World]:
    # Beside the servers, not below pytest's folder: sockets of the engines need short paths.
    folder = servers.folder / "worker"
    folder.mkdir()
    made = World(folder, servers, movielens_raw)
    made.write_files()
    yield made
