"""How does a service run on a Ray cluster? As replicas of Ray Serve around the same app, behind Ray's proxies.

Each replica follows its alias by itself, so a promotion is no redeployment, and says by itself when it has no room. A
question goes through one process more than under uvicorn, which costs 8 to 15 ms of CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from registry.serving.wire.config import MULTIPROCESS, ServingConfig

HEALTH = 5.0
"""Seconds between looks whether a replica lives; one that does not is started again."""
ENDING = 30.0
"""Seconds that a replica has to answer what it holds and to write its log."""
IDLE = 5
"""Seconds that a connection may be silent between questions."""


def application(
    config: ServingConfig, build: Callable[[], Any], environment: Mapping[str, str], process: Mapping[str, str]
) -> Any:
    """Return the application of a service for Ray Serve.

    Args:
        config: of the service; `listen.workers` are its replicas.
        build: returns the ASGI app of one replica, in the replica.
        environment: variables that `build` reads; Ray shows and logs them nowhere.
        process: variables that a replica's process starts with; Ray shows them to whoever looks, so no secret.
    """
    from ray import serve

    @serve.ingress(build)  # called in the replica, after the constructor
    class Answering:
        def __init__(self, variables: dict[str, str]) -> None:
            os.environ.update(variables)
            if counts := os.environ.get(MULTIPROCESS):
                Path(counts).mkdir(mode=0o700, parents=True, exist_ok=True)

    limits = config.limits
    deployment = serve.deployment(
        Answering,
        name=config.name,
        num_replicas=config.listen.workers,
        max_ongoing_requests=limits.in_flight + limits.queue,
        max_queued_requests=max(limits.queue, 1),
        health_check_period_s=HEALTH,
        graceful_shutdown_timeout_s=ENDING,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": dict(process)}},
    )
    return deployment.bind(dict(environment))


def start(config: ServingConfig, app: Any) -> None:
    """Run an application on the cluster that this process is connected to, and wait until it answers.

    One service answers at the root of a cluster's address; another one needs another cluster.

    Args:
        config: where it listens; on loopback on the head alone, else on every node with a replica.
        app: what `application` returned.
    """
    from ray import serve

    listen = config.listen
    http: dict[str, Any] = {"host": listen.host, "port": listen.port, "keep_alive_timeout_s": IDLE}
    if listen.tls is not None:
        http |= {"ssl_certfile": listen.tls.cert, "ssl_keyfile": listen.tls.key}
    serve.start(proxy_location="HeadOnly" if listen.loopback else "EveryNode", http_options=http)
    serve.run(app, name=config.name, route_prefix="/")


def end(config: ServingConfig, *, patient: bool) -> None:
    """Take the service off the cluster, and Ray Serve too where nothing else runs on it.

    Args:
        config: of the service.
        patient: wait until questions in flight are answered; else the cluster goes on doing so by itself.
    """
    from ray import serve

    serve.delete(config.name, _blocking=patient)
    if patient and not serve.status().applications:
        serve.shutdown()
