"""Does a service answer when its online store is gone, or does not answer any more, and find it again afterwards?"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from components.platform.settings import Settings
from tests.served_shop import Served, question, serving, starting

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
HASTY = {"timeout": "300ms", "cache_items": 0}
GENEROUS = 20.0
"""Seconds within which an answer must have come: SQLite alone waits that long for a lock, a dead server for ever."""


def degraded(served: Served) -> list[str]:
    """Return what the answer lacks; it must have come, and soon."""
    with served.client(GENEROUS) as client:
        answered = client.post("/v2/models/shop/infer", json=question())
    assert answered.status_code == 200, answered.text
    found: list[str] = answered.json()["parameters"]["degraded"]
    return found


def love(served: Served) -> list[float]:
    outputs: list[dict[str, Any]] = served.ask().json()["outputs"]
    return next(output["data"] for output in outputs if output["name"] == "love")


def test_a_store_that_hangs_costs_its_values_and_comes_back(shop: Settings, tmp_path: Path) -> None:
    with serving(shop, tmp_path, features=HASTY) as served:
        served.until(lambda: degraded(served) == [])
        before = love(served)
        with closing(sqlite3.connect(shop.feast / "online.db", isolation_level=None)) as holder:
            holder.execute("BEGIN EXCLUSIVE")  # nobody reads until this ends
            for _ in range(12):  # more than there are threads to wait for the store
                assert degraded(served) == ["features"]
            assert love(served) != before
            holder.execute("ROLLBACK")
        served.until(lambda: degraded(served) == [])
        assert love(served) == before
        assert served.stop() == 0
    address, *lines = served.said().splitlines()
    assert served.url in address and "Traceback" not in served.said()
    assert len(served.messages()) == len(lines), "one line of JSON for each message"
    assert [said["model"] for said in served.messages() if said["said"].endswith("v1 answers")] == ["shop"]


def test_a_store_that_comes_after_the_service_is_found(shop: Settings, tmp_path: Path) -> None:
    database, away = shop.feast / "online.db", shop.feast / "online.db.away"
    database.rename(away)
    try:
        with serving(shop, tmp_path, features=HASTY) as served:
            assert degraded(served) == ["features"]
            away.rename(database)
            served.until(lambda: degraded(served) == [])
        assert "there is no online store" in served.said() and "Traceback" not in served.said()
    finally:
        if away.exists():
            away.rename(database)


def test_with_refuse_a_store_that_is_gone_is_a_sentence(shop: Settings, tmp_path: Path) -> None:
    database, away = shop.feast / "online.db", shop.feast / "online.db.away"
    database.rename(away)
    try:
        with starting(shop, tmp_path, features=HASTY, fallback={"features": "refuse"}) as served:
            served.until(served.ready)
            refused = served.ask()
    finally:
        away.rename(database)
    assert refused.status_code == 503 and refused.headers["retry-after"]
    assert "online store did not answer" in refused.json()["error"]
