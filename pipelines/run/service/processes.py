"""How does a service start on this machine, and stop? Processes of uvicorn around one app.

What answers is decided in `registry.serving`; `parts` says where versions, memories and features come from.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from components.platform.errors import BadInputError
from components.platform.process_tree import end_with_parent
from components.platform.settings import Settings, quiet_engines
from pipelines.run.service.secrets import log_hashes, resolved_token
from registry.serving.wire.config import MULTIPROCESS, Engine, ServingConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette

CONFIG, TOKEN = "RANKMILL_SERVING_CONFIG", "RANKMILL_SERVING_TOKEN_VALUE"
"""Environment variables that hand the config, and the token that it refers to, to the processes that answer."""
HEADER_BYTES = 16 << 10
IDLE = 5
"""Seconds that a connection may be silent between questions."""


def worker() -> Starlette:
    """Return the app of one process of uvicorn; it calls this."""
    app = app_of_process()
    if app.state.service.config.listen.workers > 1:
        end_with_parent()  # nobody would start it again, and nobody could stop it
    return app


def app_of_process() -> Starlette:
    """Return the app of one process, as the environment describes it."""
    from pipelines.run.service.parts import service_of
    from registry.serving.live.counters import forget_dead
    from registry.serving.server.app import make_app

    quiet_engines()
    _log_as_json()
    logging.captureWarnings(True)  # of libraries, which nobody who serves can mend
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    import pyarrow as pa

    pa.set_cpu_count(1)
    config = ServingConfig.model_validate_json(os.environ[CONFIG])
    token, counts = os.environ.get(TOKEN), os.environ.get(MULTIPROCESS)
    if counts is not None:
        forget_dead(counts)
    return make_app(service_of(config, Settings.from_environment(), token, counts))


def serve(config: ServingConfig, engine: Engine | None = None) -> int:
    """Answer until Ctrl-C or SIGTERM, in as many processes as the config says; one that ends is started again.

    Args:
        config: of the service.
        engine: what runs the processes; None takes Ray where the settings name a cluster.

    Returns:
        Exit status.

    Raises:
        BadInputError: the port is in use, or the token is not there, or no cluster is.
        RetryableError: the cluster does not answer.
    """
    settings, token = Settings.from_environment(), resolved_token(config)
    log_hashes(config)  # a secret that is not there is told before a process is started
    told = {CONFIG: config.model_dump_json()} | ({TOKEN: token} if token is not None else {})
    if engine == "ray" or (engine is None and settings.ray_address):
        from pipelines.run.service.on_ray import serve_on_ray

        return serve_on_ray(config, settings, told)
    return _serve_here(config, told)


def _serve_here(config: ServingConfig, told: dict[str, str]) -> int:
    """Run uvicorn's processes on this machine; `told` are the variables that hand them the config and the token."""
    listen = config.listen
    _refuse_busy(listen.host, listen.port)
    os.environ |= told | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="rankmill-counts-") as counts:
        os.environ[MULTIPROCESS] = counts
        import uvicorn  # whatever imports Prometheus' client must find the folder
        from uvicorn.supervisors import Multiprocess

        from registry.serving.server.app import DRAIN
        from registry.serving.server.connections import Connection

        class Processes(Multiprocess):
            """Whoever comes while they end is turned away at once, to ask another machine, and not kept waiting."""

            def terminate_all(self) -> None:
                for bound in self.sockets:
                    bound.close()
                super().terminate_all()

        # uvicorn sends itself the signal again when it is done, which would end this process with another status.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        plan = uvicorn.Config(
            "pipelines.run.service.processes:worker",
            factory=True,
            host=listen.host,
            port=listen.port,
            workers=listen.workers,
            access_log=False,
            log_level="warning",
            server_header=False,
            date_header=False,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=int(DRAIN),
            limit_concurrency=None,
            h11_max_incomplete_event_size=HEADER_BYTES,
            http=Connection,
            ws="none",
            ssl_certfile=listen.tls.cert if listen.tls else None,
            ssl_keyfile=listen.tls.key if listen.tls else None,
        )
        _log_as_json()
        if listen.workers > 1:
            Processes(plan, sockets=[plan.bind_socket()]).run()
            return 0
        server = uvicorn.Server(plan)
        with suppress(KeyboardInterrupt):
            server.run()
        return 0 if server.started else 1


def _refuse_busy(host: str, port: int) -> None:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInputError(
                f"{host}:{port} cannot be listened on ({error.strerror}): stop what uses it, or name another --port"
            ) from None


class _Json(logging.Formatter):
    """One line of JSON per message."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "said": record.getMessage(),
            "process": record.process,
        }
        said |= {key: getattr(record, key) for key in ("model", "version", "reason") if hasattr(record, key)}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def _log_as_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    for name in ("rankmill", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "rankmill" else logging.WARNING)
