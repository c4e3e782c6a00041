"""Does a service on Ray Serve answer as under uvicorn, to the bit, to the same callers, and follow its champion?"""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from components.platform.settings import Settings
from tests.homes import ready
from tests.local_servers import wait_for
from tests.served_shop import URL, Served, crown, materialise, question, serving, starting, write_features
from tests.services.servers import Servers

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
JOB = "rankmill-serve-shop"
ASKED = [question(), question(items=(9,), user=3), question(items=tuple(range(1, 60)), user=999)]
LISTEN = {"token": "${env:SHOP_TOKEN}", "workers": 1}
LIMITS = {"body": "64KiB"}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A Ray head alone of the production set."""
    made = Servers()
    try:
        made.folder.chmod(0o711)
        made.start_ray()
        yield made
    finally:
        made.__exit__()


@pytest.fixture(scope="module")
def secret() -> str:
    return f"tk{secrets.token_hex(16)}"


@pytest.fixture(scope="module")
def shop(servers: Servers, engines: Path, model_of: Callable[[str], Path]) -> Settings:
    """A home that the cluster sees, with a champion and features."""
    folder = servers.folder / "served-on-ray"
    settings = ready(folder / "home", engines)
    crown(settings, model_of("lr"), folder)
    materialise(settings, write_features(folder / "features", 1))
    return settings


def answers(served: Served) -> list[object]:
    return [json.loads(served.ask(one).content)["outputs"] for one in ASKED]


@pytest.fixture(scope="module")
def expected(shop: Settings, servers: Servers, secret: str) -> list[object]:
    """What uvicorn's process answers."""
    env = {"SHOP_TOKEN": secret}
    with serving(shop, servers.folder / "under-uvicorn", env=env, listen=LISTEN, limits=LIMITS) as served:
        return answers(served)


@pytest.fixture(scope="module")
def served(shop: Settings, servers: Servers, secret: str, expected: list[object]) -> Iterator[Served]:
    env = {"SHOP_TOKEN": secret, "RAY_AUTH_TOKEN": servers.token}
    with starting(
        replace(shop, ray_address=servers.ray_url), servers.folder / "on-ray", env=env, listen=LISTEN, limits=LIMITS
    ) as running:
        running.until(running.ready, 400)
        yield running


def test_the_answers_are_the_same_to_the_bit(served: Served, expected: list[object]) -> None:
    assert answers(served) == expected


def test_callers_are_let_in_and_turned_away_as_ever(served: Served, secret: str) -> None:
    url = f"{served.url}{URL}"
    assert httpx.post(url, json=ASKED[0], timeout=60).status_code == 401
    known = {"Authorization": f"Bearer {secret}"}
    assert httpx.post(url, json=ASKED[0], headers=known | {"Host": "evil.example"}, timeout=60).status_code == 400
    assert httpx.post(url, content=b" " * (65 << 10), headers=known, timeout=60).status_code == 413
    assert httpx.post(url, content=b"{", headers=known, timeout=60).status_code == 400
    assert served.counts()['rankmill_requests_total{code="200",role="champion"}'] >= len(ASKED)


def test_a_promotion_is_followed_without_a_redeployment(
    served: Served, shop: Settings, servers: Servers, model_of: Callable[[str], Path]
) -> None:
    before = [job["start_time"] for job in servers.ray_jobs() if job["submission_id"] == JOB]
    version = crown(shop, model_of("esmm"), servers.folder / "served-on-ray")
    seen = []

    def followed() -> bool:
        answered = served.ask()
        seen.append(answered.status_code)
        return answered.status_code == 200 and answered.json()["model_version"] == str(version)

    served.until(followed)
    assert {*seen} == {200}
    assert [job["start_time"] for job in servers.ray_jobs() if job["submission_id"] == JOB] == before


def test_who_starts_it_takes_it_off_again_and_no_secret_is_left(
    served: Served, shop: Settings, servers: Servers, secret: str
) -> None:
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(120) == 0, served.said()
    assert {job["status"] for job in servers.ray_jobs() if job["submission_id"] == JOB} <= {"STOPPED", "SUCCEEDED"}
    assert wait_for(lambda: served.answers("/v2/health/ready") != 200)
    said = json.dumps(servers.ray_jobs()) + served.said()
    assert secret not in said and servers.token not in said
    files = [path for path in servers.folder.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
