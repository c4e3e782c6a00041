"""How is MLflow reached, how does its database come into being exactly once, and when can it not be used?

MLflow creates and migrates an SQLite file on first use, and several first users at once leave it broken
for good. Here the file is made under a lock in a temporary place and renamed, so that it is either
absent or complete. Servers look after their own database.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from features.ground.errors import BadInputError, MissingError, RankmillError, RetryableError
from features.ground.files import locked as exclusive
from features.ground.files import write_durably
from features.ground.imports import importing
from features.ground.remote_files import sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("rankmill")

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "ALEMBIC_LOG_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Its own seven tries take four and a half minutes; the stage is tried again anyway.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
_CREATE = "`rankmill run` creates it"
_CAUSE = re.compile(r"(?:\[Errno -?\d+\] |ResponseError\(')([A-Za-z][^'\"()]+)")
"""What was wrong, inside the several errors that wrap it."""
_PATIENCE = 5.0
"""Seconds to wait for another program to let go of the file before saying so."""


def quiet() -> None:
    """Turn MLflow's telemetry and chatter off, unless the user has set them. Call before importing it."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # What MLflow logs about its database with a traceback, `explain` says in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for name in ("alembic", "mlflow.tracking._model_registry.client"):
        logging.getLogger(name).setLevel(logging.WARNING)


def sqlite_file(tracking_uri: str) -> Path | None:
    """Return the file behind an ``sqlite:////absolute/path.db`` URI, or None for any other store.

    Raises:
        BadInputError: the URI names no absolute file, or MLflow's file store, which MLflow has retired.
    """
    if tracking_uri.startswith("sqlite:"):
        path = Path(unquote(tracking_uri.removeprefix("sqlite:").removeprefix("///").partition("?")[0]))
        if not tracking_uri.startswith("sqlite:////"):
            raise BadInputError(
                f"tracking URI {tracking_uri!r} names no absolute file: use sqlite:////absolute/mlflow.db"
            )
        return path
    if "://" not in tracking_uri or tracking_uri.startswith("file:"):
        raise BadInputError(
            f"tracking URI {tracking_uri!r} is a folder, which MLflow no longer serves: "
            "use sqlite:////absolute/mlflow.db or the address of a server"
        )
    return None


def initialise(tracking_uri: str, artifact_root: str | None = None) -> None:
    """Create or migrate the tracking database if it is an SQLite file that needs it; cheap when done.

    Raises:
        BadInputError: the URI cannot be used, or the file is not an MLflow database.
        RetryableError: the disk is full, or another program holds the file.
    """
    quiet()
    path = sqlite_file(tracking_uri)
    if path is None or _is_ready(path):
        return
    with locked(tracking_uri):
        if _is_ready(path):
            return
        try:
            if path.exists() and path.stat().st_size > 0:
                _migrate(path, tracking_uri)
            else:
                _create(path, tracking_uri, artifact_root)
            _mark(path)
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            raise RetryableError(f"cannot create the MLflow database {path}: {reason}; fix it and run again") from error


@contextmanager
def locked(tracking_uri: str) -> Iterator[None]:
    """Hold the lock beside an SQLite file, so that one process at a time creates or registers; no-op for servers."""
    path = sqlite_file(tracking_uri)
    if path is None:
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path.with_name(f"{path.name}.lock")))
        except OSError as error:
            raise RetryableError(
                f"cannot write beside the MLflow database {path}: {error.strerror}; fix the folder and run again"
            ) from error
        yield


def require(tracking_uri: str) -> None:
    """Check in a millisecond that the database can be read, before MLflow retries for minutes.

    Raises:
        MissingError: the SQLite file is missing or was never initialised.
        RetryableError: another program holds it.
        BadInputError: it is not a database.
    """
    path = sqlite_file(tracking_uri)
    if path is None:
        return
    if not path.exists():
        raise MissingError(f"no MLflow database at {path}: {_CREATE}, or point MLFLOW_TRACKING_URI at the right one")
    if not _revision(path):
        raise MissingError(f"the MLflow database {path} is empty: {_CREATE}")


@contextmanager
def default_store(tracking_uri: str) -> Iterator[None]:
    """Make `tracking_uri` MLflow's default for a moment.

    Its database registry looks logged models up in the process's default store, whichever client asks.
    """
    import mlflow

    variable = os.environ.pop("MLFLOW_TRACKING_URI", None)
    explicit: Any = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(explicit)
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable


@contextmanager
def asking(tracking_uri: str) -> Iterator[MlflowClient]:
    """Give a client of MLflow, and turn what it and its database raise during the block into our sentences.

    Every call to MLflow goes through here: telemetry off, few tries, no password in a message.
    """
    quiet()
    with importing():
        from mlflow import MlflowClient

    with explained(tracking_uri):
        with importing():  # the first client imports the store behind it
            client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        yield client


@contextmanager
def explained(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow and its database raise during the block into the sentences of `explain`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise explain(without_login(error, tracking_uri), tracking_uri) from error


def shown(tracking_uri: str) -> str:
    """Return a tracking URI as messages show it: without the user and password that it may hold."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", tracking_uri)


def without_login(error: Exception, tracking_uri: str) -> Exception:
    """Return the error, its text changed to show the URI as messages do: logs print causes, and MLflow's name it."""
    error.args = tuple(
        arg.replace(tracking_uri, shown(tracking_uri)) if isinstance(arg, str) else arg for arg in error.args
    )
    return error


def reason_of(error: Exception) -> str:
    """Return the first line of an error, or its kind when it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def explain(error: Exception, tracking_uri: str) -> RankmillError:
    """Return the sentence for an error that came out of MLflow or its database."""
    text = str(error)
    where = sqlite_file(tracking_uri) or shown(tracking_uri)
    first = reason_of(error)[:300]
    if "database is locked" in text:
        return RetryableError(f"the MLflow database {where} is locked by another program: wait for it, then run again")
    if any(
        sign in text for sign in ("database or disk is full", "disk I/O error", "readonly database", "unable to open")
    ):
        return RetryableError(f"the MLflow database {where} cannot be written: {first}; fix the disk and run again")
    if any(sign in text for sign in ("file is not a database", "malformed")):
        return BadInputError(f"{where} is not an SQLite database: move it away or restore it from a backup")
    if any(sign in text for sign in ("API request to", "Connection refused", "Max retries exceeded", "timed out")):
        cause = _CAUSE.search(text)
        return RetryableError(
            f"the MLflow server {where} does not answer: {cause[1] if cause else first}; start it and run again"
        )
    if isinstance(error, OSError):
        return RetryableError(f"MLflow at {where} cannot be written: {first}; fix it and run again")
    return BadInputError(f"MLflow at {where} refused: {first}")


def _revision(path: Path) -> str:
    """Return the schema revision of an SQLite file, empty when it has none."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)) as connection:
            row = connection.execute("select version_num from alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        raise explain(error, sqlite_uri(path)) from error
    except sqlite3.DatabaseError as error:
        raise explain(error, sqlite_uri(path)) from error
    return str(row[0]) if row else ""


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.ready")


def _is_ready(path: Path) -> bool:
    """Return whether this file was made by the installed MLflow and has not been exchanged since."""
    try:
        release, _, revision = _marker(path).read_text(encoding="utf-8").partition(" ")
    except OSError:
        return False
    return path.exists() and release == installed_version("mlflow") and revision == _revision(path)


def _mark(path: Path) -> None:
    write_durably(_marker(path), f"{installed_version('mlflow')} {_revision(path)}")


def _create(path: Path, tracking_uri: str, artifact_root: str | None) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _upgrade(sqlite_uri(partial), tracking_uri, artifact_root)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _migrate(path: Path, tracking_uri: str) -> None:
    if not _revision(path):
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            tables = connection.execute("select count(*) from sqlite_master").fetchone()[0]
        if tables:
            raise BadInputError(f"{path} is an SQLite file but not MLflow's: point MLFLOW_TRACKING_URI at another path")
    backup = path.with_name(f"{path.name}.before-{installed_version('mlflow')}")
    if not backup.exists():
        shutil.copy2(path, backup)
    log.info("migrating %s to MLflow %s; the old file is kept as %s", path, installed_version("mlflow"), backup.name)
    _upgrade(tracking_uri, tracking_uri, None)


def _upgrade(uri: str, tracking_uri: str, artifact_root: str | None) -> None:
    from mlflow.db import upgrade
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    quiet()  # importing MLflow sets its loggers again
    with explained(tracking_uri):
        upgrade.callback(uri)
        # The first store to open a database adds the experiment `Default`; two at once would collide.
        store = SqlAlchemyStore(uri, artifact_root or (Path(sqlite_file(uri) or "/").parent / "artifacts").as_uri())
        store.engine.dispose()
