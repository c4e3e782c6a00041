"""How do tests find a free port, wait for a server, and ask Airflow's API on this machine?"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], seconds: float = 90) -> Any:
    """Return what came about, or the last empty answer when the time is over."""
    until = time.monotonic() + seconds
    while not (value := what()) and time.monotonic() < until:
        time.sleep(0.5)
    return value


def ask_airflow(port: int, passwords: Path, method: str, path: str, body: Any = None) -> Any:
    """Return the answer of Airflow's API to a request by who can read the file with its passwords."""
    return json.loads(ask_airflow_page(port, passwords, f"/api/v2{path}", method, body))


def ask_airflow_page(port: int, passwords: Path, path: str, method: str = "GET", body: Any = None) -> bytes:
    """Return what Airflow answers at any address to who can read the file with its passwords."""
    [(user, password)] = json.loads(passwords.read_text()).items()
    login = json.dumps({"username": user, "password": password}).encode()
    asked = Request(f"http://{HOST}:{port}/auth/token", data=login, headers={"Content-Type": "application/json"})
    token = json.load(urlopen(asked, timeout=30))["access_token"]
    request = Request(
        f"http://{HOST}:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    return bytes(urlopen(request, timeout=60).read())
