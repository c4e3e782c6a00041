"""Does a service answer when its Redis is stopped, hangs, or falls silent for good, and find it again afterwards?"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.platform.settings import Settings
from tests.homes import ready
from tests.local_servers import HOST, free_port
from tests.served_shop import Served, crown, materialise, serving, write_features
from tests.services.conftest import FEATURE_STORE
from tests.services.servers import Servers

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
HASTY = {"timeout": "300ms", "cache_items": 0}


class Relay:
    """A line to Redis that can fall silent: what was connected hears nothing any more, not even that it ended."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self._server = socket.create_server((HOST, self.port))
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Forget every connection that there is; new ones are well."""
        self._silent |= {*self._open}

    def close(self) -> None:
        self._server.close()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
                far = socket.create_connection((HOST, self.target))
            except OSError:
                return
            self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while part := source.recv(1 << 16):
                if source in self._silent:
                    return
                target.sendall(part)
        except OSError:
            return


@pytest.fixture(scope="module")
def redis() -> Iterator[Servers]:
    """Redis alone of the production set."""
    servers = Servers()
    try:
        servers.start_redis()
        yield servers
    finally:
        servers.__exit__()


@pytest.fixture(scope="module")
def relay(redis: Servers) -> Iterator[Relay]:
    made = Relay(redis.port["redis"])
    yield made
    made.close()


@pytest.fixture(scope="module")
def places(redis: Servers, relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of the production set's `feature_store.yaml`, with a registry in a file."""
    registry = tmp_path_factory.mktemp("registry") / "registry.db"
    return {
        "RANKMILL_FEATURE_STORE": str(FEATURE_STORE),
        "RANKMILL_FEAST_REDIS": f"{HOST}:{relay.port},password={redis.password}",
        "RANKMILL_FEAST_REGISTRY": f"sqlite:///{registry}",
    }


@pytest.fixture(scope="module")
def served(
    places: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    engines: Path,
    model_of: Callable[[str], Path],
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("shop")
    settings: Settings = ready(folder / "home", engines)
    crown(settings, model_of("lr"), folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in places.items():
            patch.setenv(name, value)
        materialise(settings, write_features(folder / "features", 1))
    with serving(settings, folder / "service", env=places, features=HASTY) as running:
        running.until(lambda: degraded(running) == [])
        yield running
        said = running.said()
        assert "Traceback" not in said and places["RANKMILL_FEAST_REDIS"].rpartition("=")[2] not in said


def degraded(served: Served) -> list[str]:
    answered = served.ask()
    assert answered.status_code == 200, answered.text
    found: list[str] = answered.json()["parameters"]["degraded"]
    return found


def love(served: Served) -> list[Any]:
    return next(each["data"] for each in served.ask().json()["outputs"] if each["name"] == "love")


def test_a_redis_that_is_stopped_costs_its_values_and_comes_back(served: Served, redis: Servers) -> None:
    before = love(served)
    redis.stop("redis")
    for _ in range(12):
        assert degraded(served) == ["features"]
    assert love(served) != before
    redis.start_redis()
    served.until(lambda: degraded(served) == [])
    assert love(served) == before


def test_a_redis_that_hangs_costs_its_values_and_comes_back(served: Served, redis: Servers) -> None:
    [server] = [each for each in psutil.process_iter(["cmdline"]) if listens_on(each, redis.port["redis"])]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(12):  # more than there are threads to wait for it
            assert degraded(served) == ["features"]
    finally:
        os.kill(server.pid, signal.SIGCONT)
    served.until(lambda: degraded(served) == [])


def test_a_line_that_falls_silent_for_good_is_given_up(served: Served, relay: Relay) -> None:
    relay.fall_silent()
    for _ in range(12):
        degraded(served)  # with values as soon as a new connection is made
    served.until(lambda: degraded(served) == [])
    for _ in range(12):
        assert degraded(served) == []


def listens_on(process: psutil.Process, port: int) -> bool:
    words = process.info["cmdline"] or []
    return bool(words) and "redis-server" in words[0] and f":{port}" in " ".join(words)
