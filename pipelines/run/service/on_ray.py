"""How does a service come onto a Ray cluster, and off again? By a process that stays until it is stopped.

Where the address is that of a job server, that process is a job of the cluster. What the replicas must know, secrets
among it, goes there in a file of the home, which the cluster sees: what a job is sent by Ray, Ray logs and shows.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.platform.errors import BadInputError, RetryableError
from components.platform.settings import Settings, python_path, quiet_engines
from features.declaration import Frozen
from registry.serving.wire.config import MULTIPROCESS, ServingConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette

OWN = ("RANKMILL_", "MLFLOW_", "AWS_", "FEAST_")
"""Beginnings of the names of variables that say where things are, besides those of the profile in use."""
POLL = 1.0
log = logging.getLogger("rankmill.serving")


class Order(Frozen):
    """What the process on the cluster is told."""

    config: ServingConfig
    environment: dict[str, str]
    """Variables of the replicas."""


def serve_on_ray(config: ServingConfig, settings: Settings, environment: Mapping[str, str]) -> int:
    """Answer from a Ray cluster until Ctrl-C or SIGTERM.

    Args:
        config: of the service.
        settings: where the cluster is.
        environment: the config and the token as the app's processes read them.

    Returns:
        Exit status.

    Raises:
        BadInputError: no cluster is named, or what Ray Serve needs is not installed.
        RetryableError: the cluster does not answer.
    """
    from components.train.train_ranker.ray_access import show_token
    from components.train.train_ranker.remote import takes_jobs
    from pipelines.run.service.secrets import secret_variables

    if settings.ray_address is None:
        raise BadInputError(
            f"service {config.name!r} --on ray needs a cluster: name its address in the profile (ray: {{address: …}}) "
            "or in RANKMILL_RAY_ADDRESS"
        )
    show_token()
    _require_serve()
    order = Order(config=config, environment={**_places(settings, secret_variables(config)), **environment})
    if takes_jobs(settings.ray_address):
        return _as_job(order, settings)
    return drive(order, settings.ray_address)


def _require_serve() -> None:
    try:
        import ray.serve  # noqa: F401
    except ImportError as error:
        raise BadInputError(
            f"Ray Serve is not installed ({error}): pip install --constraint constraints.txt '.[serve-ray]'"
        ) from None


def _places(settings: Settings, more: Iterable[str]) -> dict[str, str]:
    """Return the variables that say where stores are, and hold their keys; and `more`."""
    from pipelines.language.profile import active_profile

    profile = active_profile()
    named = {*more, *(profile.variables if profile is not None else ())}
    kept = {name: value for name, value in os.environ.items() if name.startswith(OWN) or name in named}
    return {name: value for name, value in (kept | settings.environment()).items() if not name.startswith("RAY_")}


def replica() -> Starlette:
    """Return the app of one replica; Ray Serve calls this in it."""
    from pipelines.run.service.processes import app_of_process

    return app_of_process()


def drive(order: Order, address: str) -> int:
    """Put a service on the cluster, wait until this process is told to stop, and take it off again.

    Raises:
        RetryableError: the cluster does not answer.
    """
    import ray

    from components.train.train_ranker.ray_launch import knock
    from registry.serving.server.on_ray import application, end, start

    try:
        knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, namespace="rankmill")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise RetryableError(
            f"cannot reach the Ray cluster at {address}: {reason}; start it, or correct RANKMILL_RAY_ADDRESS"
        ) from error
    told = _until_told()  # after Ray has set what it does when it is told to stop
    process = {
        "PYTHONPATH": python_path(),
        "OMP_NUM_THREADS": "1",
        MULTIPROCESS: str(Path(tempfile.gettempdir()) / f"rankmill-counts-{secrets.token_hex(8)}"),
    }
    try:
        start(order.config, application(order.config, replica, order.environment, process))
        told.wait()
    finally:
        end(order.config, patient=address != "auto")  # a job that is stopped has three seconds
        ray.shutdown()
    return 0


def _until_told() -> threading.Event:
    """Return what is set when this process is told to stop."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told


def _as_job(order: Order, settings: Settings) -> int:
    """Run `drive` as a job of the cluster, for as long as this process lives.

    Raises:
        RetryableError: the cluster takes no job, or the job failed.
        BadInputError: the service runs on the cluster already.
    """
    from ray.job_submission import JobSubmissionClient

    told, address = _until_told(), str(settings.ray_address)
    name = f"rankmill-serve-{order.config.name}"
    file = settings.home / "serving" / f".{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(order.model_dump_json())
    try:
        try:
            client = JobSubmissionClient(address)
            known = {info.submission_id: info for info in client.list_jobs()}
            if name in known and not known[name].status.is_terminal():
                raise BadInputError(
                    f"service {order.config.name!r} runs on {address} already: `ray job stop {name}` stops it"
                )
            if name in known:
                client.delete_job(name)
            command = [sys.executable, "-m", "pipelines.run.service.on_ray", str(file)]
            client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=name,
                runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
            )
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise RetryableError(
                f"the Ray cluster at {address} takes no job: {reason}; start it, or correct RANKMILL_RAY_ADDRESS"
            ) from error
        return _beside(client, name, told)
    finally:
        file.unlink(missing_ok=True)


def _beside(client: Any, name: str, told: threading.Event) -> int:
    """Wait for the job's end, and ask for it when this process is told to stop."""
    while not told.wait(POLL):
        try:
            status = client.get_job_status(name)
        except (OSError, RuntimeError) as error:  # the cluster goes on serving while its job server is away
            log.warning("the job server does not answer: %s", error)
            continue
        if status.is_terminal():
            said = [line for line in client.get_job_logs(name).splitlines() if line.strip()]
            raise RetryableError(f"job {name} ended ({status.value}): {said[-1][:300] if said else 'it said nothing'}")
    client.stop_job(name)
    until = time.monotonic() + 30
    while not client.get_job_status(name).is_terminal() and time.monotonic() < until:
        time.sleep(0.2)
    return 0


def main(file: str) -> int:
    """Run as the job: read the order, and drive."""
    from components.platform.errors import RankmillError

    quiet_engines()
    order = Order.model_validate_json(Path(file).read_bytes())
    try:
        return drive(order, "auto")
    except RankmillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
