"""Is no security default of an engine switched off among its chatter? Every variable that we set has a reason here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.platform.settings import QUIET, Settings
from components.train.train_ranker.ray_access import LOOPBACK_ONLY, close_to_others
from components.train.train_ranker.ray_launch import SMALL_CLUSTER, thread_environment
from components.train.train_ranker.remote import _environment
from pipelines.run.airflow_home import environment, in_process_environment
from registry.versions.database import _QUIET

TELEMETRY = "sends data about the use to the engine's makers"
CHATTER = "writes lines that no reader needs"
SPEED = "changes how long something takes"
PLACE = "says where something lies"
CLOSED = "lets fewer people in"
REASONS = {
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": TELEMETRY,
    "FEAST_USAGE": TELEMETRY,
    "GX_ANALYTICS_ENABLED": TELEMETRY,
    "MLFLOW_DISABLE_TELEMETRY": TELEMETRY,
    "DO_NOT_TRACK": TELEMETRY,
    "RAY_USAGE_STATS_ENABLED": TELEMETRY,
    "ORT_DISABLE_TELEMETRY": TELEMETRY,
    "RAY_DISABLE_IMPORT_WARNING": CHATTER,
    "ALEMBIC_LOG_LEVEL": CHATTER,
    "GIT_PYTHON_REFRESH": CHATTER,
    "TQDM_DISABLE": CHATTER,
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": CHATTER,
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS": CHATTER,
    "RAY_TRAIN_V2_ENABLED": "chooses the Ray Train that the code is written for",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": SPEED,
    "RAY_prestart_worker_first_driver": SPEED,
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": SPEED,
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": SPEED,
    "RAY_TRAIN_METRICS_ENABLED": SPEED,
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": SPEED,
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "lets the driver say how many threads its workers take",
    "OMP_NUM_THREADS": SPEED,
    "GOMP_SPINCOUNT": SPEED,
    "AIRFLOW__CORE__PARALLELISM": SPEED,
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": SPEED,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "shows no pipelines of others",
    "AIRFLOW__CORE__DAGS_FOLDER": PLACE,
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": PLACE,
    "AIRFLOW__API__PORT": PLACE,
    "AIRFLOW__API__BASE_URL": PLACE,
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": PLACE,
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": PLACE,
    "AIRFLOW_HOME": PLACE,
    "MLFLOW_TRACKING_URI": PLACE,
    "PATH": PLACE,
    "PYTHONPATH": PLACE,
    "AIRFLOW__API__HOST": CLOSED,
    "AIRFLOW__API_AUTH__JWT_SECRET": CLOSED,
    "AIRFLOW__CORE__AUTH_MANAGER": CLOSED,
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": CLOSED,
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": CLOSED,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": CLOSED,
    "RAY_AUTH_MODE": CLOSED,
    "RAY_AUTH_TOKEN_PATH": CLOSED,
    "GLOO_SOCKET_IFNAME": CLOSED,
    "NCCL_SOCKET_IFNAME": CLOSED,
}
GUARDS = re.compile(
    r"AUTH|TOKEN|SECRET|PASSW|HOST|TLS|SSL|VERIFY|INSECURE|ALLOW|CORS|CSRF|PICKLE|TRUST|SOCKET|LOOPBACK"
)
"""What a name that guards something holds."""


@pytest.fixture
def set_by_us(tmp_path: Path) -> dict[str, str]:
    """Every variable that this tree sets for an engine, with its value."""
    settings, ray = Settings.at(tmp_path / "home"), {}
    (tmp_path / "home" / "airflow").mkdir(parents=True)
    close_to_others(tmp_path / "ray", ray)
    airflow = environment(settings, {}) | in_process_environment(settings, tmp_path / "private", {})
    local = SMALL_CLUSTER | thread_environment(1) | LOOPBACK_ONLY | ray
    ours = QUIET | _QUIET | airflow | local | _environment()
    return {name: value for name, value in ours.items() if not name.startswith("RANKMILL_")}


def test_every_variable_that_we_set_has_a_reason(set_by_us: dict[str, str]) -> None:
    assert set(set_by_us) - set(REASONS) == set(), "say here what it is for"
    assert set(REASONS) - set(set_by_us) == set(), "it is not set any more"


def test_what_guards_an_engine_is_made_stricter_or_left_alone(set_by_us: dict[str, str]) -> None:
    assert {name for name in REASONS if GUARDS.search(name)} <= {name for name in REASONS if REASONS[name] == CLOSED}
    assert {name for name in {*QUIET, *_QUIET, *SMALL_CLUSTER} if REASONS[name] in (CLOSED, PLACE)} == set()
    assert set_by_us["RAY_AUTH_MODE"] == "token" and set_by_us["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert "all_admins" not in " ".join(name.lower() for name in set_by_us)
    assert {name: value for name, value in set_by_us.items() if value.lower() in ("disabled", "none", "*")} == {}
