"""What is left when a process of a service is stopped or killed? Every answer that was promised, and whole segments."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pyarrow as pa
import pytest

from components.platform.settings import Settings
from registry.serving.log.segments import segments_of
from tests.local_servers import HOST
from tests.served_shop import Served, question, serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def logged(settings: Settings) -> set[str]:
    """Return the ids of the questions that the log holds; every segment of it can be read."""
    now = datetime.now(UTC)
    segments, _ = segments_of(settings.artifacts, "shop")
    tables = [*segments.read(now - timedelta(hours=2), now + timedelta(hours=1))]
    return {*pa.concat_tables(tables)["served.request"].to_pylist()} if tables else set()


@contextmanager
def asking(served: Served, threads: int = 3) -> Iterator[list[tuple[str, int]]]:
    """Ask again and again, each time over a new connection; yields id and status of every answer, 0 where none came."""
    seen: list[tuple[str, int]] = []
    stop = threading.Event()

    def ask(caller: int) -> None:
        count = 0
        while not stop.is_set():
            name = f"{served.port}-{caller}-{count}"
            try:
                status = served.ask(question(name=name)).status_code
            except httpx.HTTPError:
                status = 0
            seen.append((name, status))
            count += 1

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(threads)]
    for caller in callers:
        caller.start()
    try:
        yield seen
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def test_a_killed_worker_costs_what_it_held_and_another_takes_its_place(shop: Settings, tmp_path: Path) -> None:
    log = {"segment": "1s", "hidden": False}
    (tmp_path / "counts").mkdir()
    with serving(shop, tmp_path, env={"TMPDIR": str(tmp_path / "counts")}, listen={"workers": 2}, log=log) as served:
        served.until(lambda: len(served.workers()) == 2)
        victim = min(worker.pid for worker in served.workers())
        [counts] = (tmp_path / "counts").glob("rankmill-counts-*")
        served.until(lambda: [*counts.glob(f"gauge_live*_{victim}.db")])
        with asking(served) as seen:
            served.until(lambda: len(seen) > 20)
            os.kill(victim, signal.SIGKILL)
            at = len(seen)
            served.until(lambda: len(seen) > at + 20)
            served.until(lambda: len(served.workers()) == 2 and victim not in {w.pid for w in served.workers()})
            served.until(lambda: not [*counts.glob(f"gauge_live*_{victim}.db")])  # the new one took its place
            at = len(seen)
            served.until(lambda: len(seen) > at + 20)
        assert {status for _, status in seen} <= {200, 0}, "others answer, and the new one only when it can"
        failed = [name for name, status in seen if status == 0]
        assert len(failed) <= 3, "only what it was answering when it was killed"
        assert [*counts.glob(f"counter_{victim}.db")], "what it counted stays"
        served.until(lambda: {name for name, _ in seen[at:]} <= logged(shop))
        workers = served.workers()
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait(30)
        _, alive = psutil.wait_procs(workers, timeout=60)
        for worker in alive:
            worker.kill()
        assert alive == [], "no worker outlives the service"
    answered = {name for name, status in seen if status == 200}
    assert len(logged(shop) & answered) > len(answered) / 3, "it lost what it had not written yet, and nothing else"
    assert "Traceback" not in served.said()


def test_a_stop_answers_what_was_asked_writes_the_log_and_is_no_failure(shop: Settings, tmp_path: Path) -> None:
    log = {"segment": "1h", "hidden": False}
    name = "asked before the stop"
    with serving(shop, tmp_path, listen={"workers": 2}, log=log, features={"cache_items": 0}) as served:
        served.until(lambda: served.ask().json()["parameters"]["degraded"] == [])
        answers: list[httpx.Response] = []
        with closing(sqlite3.connect(shop.feast / "online.db", isolation_level=None)) as holder:
            holder.execute("BEGIN EXCLUSIVE")  # the question waits for the store
            caller = threading.Thread(target=lambda: answers.append(served.ask(question(name=name))))
            caller.start()
            served.until(lambda: served.counts()["rankmill_queue_depth"] >= 1)
            served.process.send_signal(signal.SIGTERM)
            assert answers == [], "it is in flight"
            deadline = time.monotonic() + 60
            while listens(served) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not listens(served), "who comes now is not kept waiting"
            holder.execute("ROLLBACK")
        caller.join(60)
        assert served.process.wait(60) == 0
        [answered] = answers
        assert answered.status_code == 200
    assert name in logged(shop)
    assert "Traceback" not in served.said()


def listens(served: Served) -> bool:
    try:
        with socket.create_connection((HOST, served.port), timeout=5):
            return True
    except OSError:
        return False
