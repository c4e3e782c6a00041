"""How do the Airflow UI and the MLflow UI start together, and stop without leaving a process behind?"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

from components.platform.errors import BadInputError, RetryableError
from components.platform.process_tree import ProcessTree
from components.platform.settings import Settings
from pipelines.language.hiding import secrets
from pipelines.run.airflow_home import (
    AIRFLOW_PORT,
    MLFLOW_PORT,
    USER,
    bundles,
    environment,
    initialise,
    migrate_server,
    page,
    password,
    password_file,
)
from pipelines.show.terminal import filtered

HOST = "127.0.0.1"
PATIENCE = 180.0
"""Seconds until every server must be healthy."""
_GRACE = 8.0
"""Seconds between SIGTERM and SIGKILL; Airflow's scheduler needs a few to hand its tasks back."""
_POLL = 0.5


@dataclass(frozen=True)
class Server:
    """One process to start."""

    name: str
    """What it is called; also its log's name."""
    command: tuple[str, ...]
    healthy: Callable[[], bool]


def plan_servers(settings: Settings, airflow_port: int, mlflow_port: int) -> list[Server]:
    """Return the servers to start: three of Airflow, and MLflow unless a server already tracks the runs.

    No DAG of ours defers, so there is no triggerer; logs are read from disk, so the scheduler serves none.
    """
    airflow = (sys.executable, "-m", "airflow")
    health = f"http://{HOST}:{airflow_port}/api/v2/monitor/health"

    def part(name: str) -> Callable[[], bool]:
        return lambda: (_read(health).get(name) or {}).get("status") == "healthy"

    servers = [
        Server(
            "api-server",
            (*airflow, "api-server", "--host", HOST, "--port", str(airflow_port), "--workers", "1"),
            part("metadatabase"),
        ),
        Server("scheduler", (*airflow, "scheduler", "--skip-serve-logs"), part("scheduler")),
        Server("dag-processor", (*airflow, "dag-processor"), part("dag_processor")),
    ]
    if settings.tracking_uri.startswith("sqlite:"):
        command = (
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(mlflow_port)),
            *("--backend-store-uri", settings.tracking_uri, "--artifacts-destination", settings.mlflow_artifacts),
            *("--workers", "1"),
            # A page of the web whose name leads to 127.0.0.1 sends its own name as the host.
            *("--allowed-hosts", "localhost,localhost:*,127.0.0.1,127.0.0.1:*"),
        )
        servers.append(Server("mlflow", command, lambda: _answers(f"http://{HOST}:{mlflow_port}/health")))
    return servers


def serve(
    settings: Settings,
    say: Callable[[str], None],
    *,
    airflow_port: int = AIRFLOW_PORT,
    mlflow_port: int = MLFLOW_PORT,
) -> int:
    """Start Airflow and MLflow on loopback, say where they are, and run until Ctrl-C or SIGTERM.

    Every server sits in a `ProcessTree`, so all of them and all of theirs end with this process, even
    when it is killed with SIGKILL.

    Returns:
        Exit status: 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        BadInputError: a port is taken.
        RetryableError: a server ended, or did not become healthy in time; the message names its log.
        StorageError: Airflow's database does not answer.
    """
    _refuse_busy({"--airflow-port": airflow_port, "--mlflow-port": mlflow_port})
    stop = _Stop()
    initialise(settings)
    migrate_server(settings)
    env = environment(settings, api_port=airflow_port) | bundles() | page(settings, airflow_port)
    env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    login = _login(settings, env)  # before Airflow starts, which would make and log a password of its own
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    servers = plan_servers(settings, airflow_port, mlflow_port)
    say(f"starting {', '.join(server.name for server in servers)}; logs in {logs}")
    with ExitStack() as stack:
        trees = {
            server.name: stack.enter_context(
                ProcessTree(server.command, log=_fresh(logs / f"{server.name}.log"), env=env, grace=_GRACE)
            )
            for server in servers
        }
        _await_health(servers, trees, logs, stop)
        if stop.number is None:
            mlflow = f"http://{HOST}:{mlflow_port}" if "mlflow" in trees else settings.tracking_uri
            say(f"Airflow  http://{HOST}:{airflow_port}  ({login})")
            say(f"MLflow   {mlflow}  (no login)")
            say("both listen on this machine only; Ctrl-C stops them")
        while stop.number is None:
            _refuse_ended(trees, logs)
            time.sleep(_POLL)
        say("stopping")
        with ThreadPoolExecutor(len(trees)) as pool:  # at once: one after the other would add their graces up
            list(pool.map(ProcessTree.end, trees.values()))
    say("stopped")
    return 128 + stop.number


def _login(settings: Settings, env: Mapping[str, str]) -> str:
    """Return how to log in to Airflow; the password is said once, when it is made, and stays in its file."""
    file = password_file(settings)
    if env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] != str(file):
        return "its login is the one that you have set"
    word, fresh = password(settings)
    return f"user {USER}, password {word}, kept in {file}" if fresh else f"user {USER}, password in {file}"


def port_is_busy(port: int) -> bool:
    """Return whether something listens on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


class _Stop:
    """Remembers the first signal that asked for an end; later ones cannot interrupt the clean-up."""

    def __init__(self) -> None:
        self.number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number


def _await_health(servers: list[Server], trees: Mapping[str, ProcessTree], logs: Path, stop: _Stop) -> None:
    waiting = {server.name: server for server in servers}
    until = time.monotonic() + PATIENCE
    while waiting and stop.number is None:
        _refuse_ended(trees, logs)
        waiting = {name: server for name, server in waiting.items() if not server.healthy()}
        if waiting and time.monotonic() > until:
            name = min(waiting)
            raise RetryableError(
                f"{name} did not answer within {PATIENCE:.0f} s: see {logs / name}.log, then try again"
            )
        if waiting:
            time.sleep(_POLL)


def _refuse_ended(trees: Mapping[str, ProcessTree], logs: Path) -> None:
    for name, tree in trees.items():
        if (code := tree.poll()) is not None:
            raise RetryableError(f"{name} ended with status {code}: see {logs / name}.log, then try again")


def _refuse_busy(ports: Mapping[str, int]) -> None:
    for option, port in ports.items():
        if port_is_busy(port):
            raise BadInputError(f"port {port} on {HOST} is in use: stop what uses it, or choose another with {option}")


def _fresh(log: Path) -> Path | int:
    """Return an empty log; what a profile fetched is hidden in it, because Airflow hides it in its tasks' logs only."""
    log.write_bytes(b"")
    return filtered(log) if secrets() else log


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):  # noqa: S310  # our own loopback address
            return True
    except (URLError, OSError):
        return False


def _read(url: str) -> dict[str, dict[str, str]]:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310  # our own loopback address
            value = json.load(answer)
            return value if isinstance(value, dict) else {}
    except (URLError, OSError, ValueError):
        return {}
