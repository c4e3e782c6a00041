"""Where do stores, trackers and data live, and which engine defaults apply?

Everything defaults to embedded engines under one home folder; each location can be moved by an
environment variable, so that production points at servers without touching a pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.ground.errors import BadInputError
from features.ground.remote_files import sqlite_uri

ROOT = Path(__file__).resolve().parents[2]
"""The application's tree: what Airflow bundles and Ray ships."""

QUIET = {
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "ALEMBIC_LOG_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
    "TQDM_DISABLE": "1",
}
"""Telemetry and chatter that every engine starts with and Rankmill turns off; never what protects an engine."""


def python_path() -> str:
    """Return the ``PYTHONPATH`` of a process that runs this tree's code: the tree, then what is set already."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


VARIABLES = {
    "home": "RANKMILL_HOME",
    "data": "RANKMILL_DATA",
    "artifacts": "RANKMILL_ARTIFACTS",
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "mlflow_artifacts": "RANKMILL_MLFLOW_ARTIFACTS",
    "feast": "RANKMILL_FEAST",
    "ledger": "RANKMILL_LEDGER",
    "runs": "RANKMILL_RUNS",
    "airflow_home": "AIRFLOW_HOME",
    "ray_address": "RANKMILL_RAY_ADDRESS",
    "page": "RANKMILL_PAGE",
}
"""Which environment variable moves each of the `Settings`."""


@dataclass(frozen=True)
class Settings:
    """Locations of everything that outlives a run."""

    home: Path
    data: Path
    artifacts: str
    """fsspec URI of the artifact store."""
    tracking_uri: str
    mlflow_artifacts: str
    """Where MLflow keeps files when it is embedded."""
    feast: Path
    """Folder with Feast's registry and embedded online store."""
    ledger: str
    """fsspec URI of the promotion ledger."""
    runs: Path
    airflow_home: Path
    ray_address: str | None = None
    """Address of a Ray cluster, or None for a local one that ends with its task."""
    page: str | None = None
    """Where people see Rankmill's page in Airflow, such as ``https://airflow.example.com/plugin/rankmill/rankmill``;
    None writes no links to it."""

    @classmethod
    def at(cls, home: Path) -> Settings:
        """Return the embedded defaults under `home`."""
        home = home.resolve()
        return cls(
            home=home,
            data=home / "data",
            artifacts=(home / "artifacts").as_uri(),
            tracking_uri=sqlite_uri(home / "mlflow" / "mlflow.db"),
            mlflow_artifacts=(home / "mlflow" / "artifacts").as_uri(),
            feast=home / "feast",
            ledger=(home / "ledger").as_uri(),
            runs=home / "runs",
            airflow_home=home / "airflow",
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings that ``RANKMILL_*`` variables describe.

        Raises:
            BadInputError: ``RANKMILL_HOME`` is not an absolute path.
        """
        env = os.environ if environ is None else environ
        given = {name: env[variable] for name, variable in VARIABLES.items() if env.get(variable)}
        home = Path(given.pop("home", ROOT / ".rankmill"))
        if not home.is_absolute():
            raise BadInputError(f"RANKMILL_HOME is {str(home)!r}: set it to an absolute path")
        base = cls.at(home)
        moved: dict[str, Any] = {
            name: Path(value) if isinstance(getattr(base, name), Path) else value for name, value in given.items()
        }
        return replace(base, **moved)

    def environment(self) -> dict[str, str]:
        """Return the variables from which another process reads the same settings."""
        values = {variable: getattr(self, name) for name, variable in VARIABLES.items()}
        return {variable: str(value) for variable, value in values.items() if value}


def quiet_engines() -> None:
    """Set the telemetry switches of `QUIET` unless the user has set them. Call before importing an engine."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
