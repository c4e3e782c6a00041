"""How is the embedded Airflow set up? Its environment variables, its database, its secret.

Everything is an ``AIRFLOW__*`` variable and none overrides one that the user has set, so that the
same code runs inside somebody's own Airflow.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from components.platform.errors import StorageError
from components.platform.settings import QUIET, ROOT, VARIABLES, Settings
from features.ground.files import locked
from features.ground.remote_files import sqlite_uri
from pipelines.language.hiding import without_passwords
from pipelines.language.load import own_folder

AIRFLOW_PORT = 8080
"""Default port of Airflow's UI and API."""
MLFLOW_PORT = 5000
"""Default port of MLflow's UI."""
USER = "admin"
"""Who logs in to the embedded Airflow."""
_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
_PLUGINS = "AIRFLOW__CORE__PLUGINS_FOLDER"
PLUGINS = ROOT / "pipelines" / "run" / "plugins"
"""What Airflow loads to show Rankmill's page."""
_CHATTER = " ".join(
    f"{name}=WARNING"
    for name in (
        "airflow",
        "great_expectations",
        "alembic",
        "httpx",
        "sqlalchemy",
        "mlflow.store",
        "feast",
        "matplotlib",
    )
)
"""Loggers that bury what stages say about their work, which is logged at INFO."""


def environment(
    settings: Settings, environ: Mapping[str, str] | None = None, *, api_port: int = AIRFLOW_PORT
) -> dict[str, str]:
    """Return the environment of every process of the embedded Airflow.

    Args:
        settings: where the engines live; handed on, so that a task sees the same stores.
        environ: environment to start from; this process' when None. What it sets is kept.
        api_port: port of the API server and UI on 127.0.0.1.
    """
    base = dict(os.environ if environ is None else environ)
    address = f"http://127.0.0.1:{api_port}"
    own = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file(settings)),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api_port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API_AUTH__JWT_SECRET": secret(settings.airflow_home / "jwt_secret"),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": _CHATTER,
        _DATABASE: sqlite(settings.airflow_home / "airflow.db"),
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
        **QUIET,
    }
    return {**own, **base, **settings.environment(), **_paths(base)}


def bundles(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variable that makes Airflow read the stubs of your own pipelines beside those of this tree.

    Empty without ``RANKMILL_PIPELINES``, and where the user has said which bundles there are.
    """
    base = os.environ if environ is None else environ
    own = own_folder(base)
    if own is None or _BUNDLES in base:
        return {}
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    folders = [("dags-folder", {}), ("own-pipelines", {"path": str(own / "dags")})]
    return {_BUNDLES: json.dumps([{"name": name, "classpath": local, "kwargs": kwargs} for name, kwargs in folders])}


def page(settings: Settings, api_port: int, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that make Airflow show Rankmill's page, and MLflow link to it.

    What the user has set stays, and so does a folder of plugins in Airflow's home: a link in it to the file in ours
    shows the page too.
    """
    base = os.environ if environ is None else environ
    address = f"http://127.0.0.1:{api_port}/plugin/rankmill/rankmill"
    found = {VARIABLES["page"]: settings.page or address}
    if _PLUGINS not in base and not (settings.airflow_home / "plugins").exists():
        found[_PLUGINS] = str(PLUGINS)
    return found


def in_process_environment(
    settings: Settings, folder: Path, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a run inside one process, with a database of its own.

    A scheduler that shared the database would take the run's tasks as its own to start, so this one
    is never shared, whatever the user has set.
    """
    return environment(settings, environ) | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        _DATABASE: sqlite(folder / "airflow.db"),
    }


def initialise(settings: Settings) -> None:
    """Prepare the databases of the embedded Airflow and MLflow; fast when that is done already.

    Safe to call from several processes at once: the first one does the work, the others wait.

    Raises:
        StorageError: a database cannot be created.
    """
    with writing_below(settings.home):
        home = settings.airflow_home
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".lock"):
            _initialise_airflow(settings, home)
            # MLflow's first migration must not run twice at once: it leaves a broken database behind.
            from registry.versions.database import initialise as initialise_registry

            initialise_registry(settings.tracking_uri)


def migrate_server(settings: Settings) -> None:
    """Prepare the database that ``AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`` names, where that is none of our own files.

    Airflow itself keeps two at once from doing so, and does nothing when it is done already.

    Raises:
        StorageError: it does not answer, or cannot be migrated.
    """
    database = os.environ.get(_DATABASE, "")
    if not database or database.startswith("sqlite:"):
        return
    if problem := _migrate(settings, database):
        raise StorageError(
            f"cannot prepare Airflow's database {without_passwords(database)}: {problem}; "
            f"start its server or correct {_DATABASE}, then run again"
        )


@contextmanager
def writing_below(folder: Path) -> Iterator[None]:
    """Turn a failure to write into one sentence.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise StorageError(f"cannot write {where}: {error.strerror}; free space or move RANKMILL_HOME") from error


@contextmanager
def private_home(settings: Settings) -> Iterator[Path]:
    """Yield a folder with a migrated Airflow database that is deleted afterwards. Call `initialise` first."""
    parent = settings.airflow_home / "in_process"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        owner = left.name.partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with writing_below(settings.home):
            (folder / "dags").mkdir(parents=True)
            shutil.copyfile(_template(settings), folder / "airflow.db")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def secret(path: Path) -> str:
    """Return the secret in `path`, made on the first call: 64 random bytes as hex, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(secrets.token_hex(64))
        return path.read_text().strip()


def password_file(settings: Settings) -> Path:
    """Return the file in which the embedded Airflow finds its passwords by user."""
    return settings.airflow_home / "passwords.json"


def password(settings: Settings) -> tuple[str, bool]:
    """Return the password of `USER` and whether it is new: made on the first call, readable by its owner only.

    Airflow could let everybody in without one, but whoever reaches the port would be admin: other users of the machine,
    and a page of the web whose name leads to 127.0.0.1.
    """
    path = password_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        fresh = not path.exists()
        if fresh:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                json.dump({USER: secrets.token_urlsafe(18)}, stream)
        return str(json.loads(path.read_text())[USER]), fresh


def sqlite(path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite file; four slashes make the path absolute."""
    return sqlite_uri(path.resolve())


def _template(settings: Settings) -> Path:
    return settings.airflow_home / f"template-{version('apache-airflow')}.db"


def _migrate(settings: Settings, database: str) -> str:
    """Create or migrate the database of an SQLAlchemy URL; return why that was not possible, or nothing."""
    env = environment(settings) | {_DATABASE: database}
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if not done.returncode:
        return ""
    said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
    # Of a driver's error the first line says what it is; what follows is SQLAlchemy's advice.
    return without_passwords(next((line for line in reversed(said) if "Error) " in line), said[-1]).strip())


def delete_before(settings: Settings, moment: datetime) -> bool:
    """Delete what Airflow recorded before a moment, and the logs of its tasks; return whether it has a database.

    Of each DAG the last scheduled run stays, as a scheduler needs it. Nothing is put into tables beside.

    Raises:
        StorageError: Airflow could not delete it.
    """
    env = environment(settings)
    if not (settings.airflow_home / "airflow.db").exists() and _DATABASE not in os.environ:
        return False
    before = ["--clean-before-timestamp", moment.isoformat(), "--skip-archive", "--yes", "--error-on-cleanup-failure"]
    command = [sys.executable, "-m", "airflow", "db", "clean", *before]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise StorageError(f"Airflow cannot delete its old records: {without_passwords(said[-1])}; run it again")
    logs = settings.airflow_home / "logs"
    for log in sorted(logs.rglob("*.log")) if logs.is_dir() else ():
        if log.stat().st_mtime < moment.timestamp():
            log.unlink(missing_ok=True)
    return True


def _migrate_file(settings: Settings, database: Path) -> None:
    if problem := _migrate(settings, sqlite(database)):
        raise StorageError(
            f"cannot create Airflow's database {database}: {problem}; "
            "free the file or move AIRFLOW_HOME, then run again"
        )


def _initialise_airflow(settings: Settings, home: Path) -> None:
    template = _template(settings)
    if not template.exists():
        fresh = home / "fresh.db"
        fresh.unlink(missing_ok=True)
        _migrate_file(settings, fresh)
        fresh.replace(template)
    database, stamp = home / "airflow.db", home / f".migrated-{version('apache-airflow')}"
    if not database.exists():
        shutil.copyfile(template, home / "copy.db")
        (home / "copy.db").replace(database)
    elif not stamp.exists():
        _migrate_file(settings, database)
    stamp.touch()


def _paths(base: Mapping[str, str]) -> dict[str, str]:
    """Return PATH and PYTHONPATH with this interpreter's tools and this tree in front."""
    tools = str(Path(sys.executable).parent)
    front = {"PATH": tools, "PYTHONPATH": str(ROOT)}
    return {
        name: os.pathsep.join(dict.fromkeys([first, *filter(None, base.get(name, "").split(os.pathsep))]))
        for name, first in front.items()
    }
