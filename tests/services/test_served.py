"""Does a service answer on servers, and go on answering when each of them is gone, and find it again afterwards?"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from registry.serving.log.segments import segments_of
from tests.served_shop import Served, question, serving
from tests.services.relay import Relay
from tests.services.served import ProductionShop, degraded, outputs, production_shop
from tests.services.servers import Servers

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
DROPPED = "rankmill_log_dropped_total"
THREADS = 8
"""That read from the store in one process, with `in_flight: 2`."""
FEEDBACK = "/v2/models/shop/feedback"


@pytest.fixture(scope="module")
def relay(servers: Servers) -> Iterator[Relay]:
    with Relay(servers.port["redis"]) as made:
        yield made


@pytest.fixture(scope="module")
def shop(servers: Servers, relay: Relay, model_of: Callable[[str], Path]) -> ProductionShop:
    return production_shop(servers, relay.port, model_of)


@pytest.fixture(scope="module")
def served(shop: ProductionShop, servers: Servers) -> Iterator[Served]:
    features: dict[str, Any] = {"timeout": "300ms", "cache_items": 0}
    with serving(
        shop.settings, shop.folder, env=shop.environment, features=features, log={"segment": "1s", "hidden": False}
    ) as running:
        running.until(lambda: degraded(running) == [])
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.said()
        assert not [secret for secret in servers.secrets if secret in running.said()]


def test_a_redis_that_is_stopped_costs_its_values_and_comes_back(served: Served, servers: Servers) -> None:
    before = outputs(served)
    servers.stop("redis")
    for _ in range(12):
        assert degraded(served) == ["features"]
    assert outputs(served)["love"] != before["love"]
    servers.start_redis()
    served.until(lambda: degraded(served) == [])
    assert outputs(served) == before


def test_a_redis_that_hangs_costs_its_values_and_comes_back(served: Served, servers: Servers) -> None:
    [server] = [each for each in psutil.process_iter(["cmdline"]) if listens_on(each, servers.port["redis"])]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(12):  # more than there are threads to wait for it
            assert degraded(served) == ["features"]
    finally:
        os.kill(server.pid, signal.SIGCONT)
    served.until(lambda: degraded(served) == [])


def test_a_line_that_falls_silent_for_good_is_given_up(served: Served, relay: Relay) -> None:
    relay.fall_silent()
    # Until every thread that reads from the store waits for somebody who is not there any more.
    served.until(lambda: degraded(served) == ["features"] and relay.forgotten > 2 * THREADS)
    relay.hear_again()
    served.until(lambda: degraded(served) == [])
    assert [degraded(served) for _ in range(THREADS)] == [[]] * THREADS


def test_an_object_store_that_is_gone_costs_the_log_and_nothing_else(
    shop: ProductionShop, served: Served, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"events": [{"request_id": "before", "item_id": 3, "feedback": "love"}]}
    with served.client() as client:
        assert client.post(FEEDBACK, json=told).status_code == 202
    dropped = served.counts().get(DROPPED, 0)
    servers.stop("s3")
    try:
        assert served.ask(question(name="lost")).status_code == 200
        served.until(lambda: served.counts().get(DROPPED, 0) > dropped)
        assert degraded(served) == []
        with served.client() as client:
            refused = client.post(FEEDBACK, json=told)
        assert refused.status_code == 503 and refused.headers["retry-after"], "feedback is durable or not taken"
    finally:
        servers.start_s3()
    with served.client() as client:
        served.until(lambda: client.post(FEEDBACK, json=told).status_code == 202)
    assert served.ask(question(name="kept")).status_code == 200
    for name, value in shop.environment.items():
        monkeypatch.setenv(name, value)
    served.until(lambda: "kept" in logged(shop))
    assert "lost" not in logged(shop)


def test_an_mlflow_that_is_gone_costs_nothing_but_the_news(
    shop: ProductionShop, served: Served, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = outputs(served)
    servers.stop("mlflow")
    try:
        served.until(lambda: degraded(served) == ["registry"], 240)
        assert outputs(served) == before
        with serving(shop.settings, shop.folder / "again", env=shop.environment) as again:
            assert "registry" in degraded(again), "the version that answered last on this machine"
            assert outputs(again) == before
    finally:
        servers.start_mlflow()
    served.until(lambda: degraded(served) == [], 240)
    for name, value in shop.environment.items():
        monkeypatch.setenv(name, value)
    version = shop.crown("esmm")
    served.until(lambda: served.ask().json()["model_version"] == str(version), 240)


def logged(shop: ProductionShop) -> set[str]:
    """Return the ids of the questions in the bucket."""
    segments, _ = segments_of(shop.settings.artifacts, "shop")
    now = datetime.now(UTC)
    tables = [*segments.read(now - timedelta(hours=1), now + timedelta(hours=1))]
    return {*pa.concat_tables(tables)["served.request"].to_pylist()} if tables else set()


def listens_on(process: psutil.Process, port: int) -> bool:
    words = process.info["cmdline"] or []
    return bool(words) and "redis-server" in words[0] and f":{port}" in " ".join(words)
