"""Does a service let in only who has its token, and is the token found nowhere afterwards?"""

from __future__ import annotations

import secrets
from pathlib import Path

import httpx
import pytest

from components.platform.settings import Settings
from tests.served_shop import URL, question, serving, starting

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
TOKEN = "${env:SHOP_TOKEN}"


def test_the_token_opens_the_service_and_stands_in_no_file(shop: Settings, tmp_path: Path) -> None:
    secret = f"tk{secrets.token_hex(16)}"
    log = {"segment": "1s"}
    with serving(shop, tmp_path, env={"SHOP_TOKEN": secret}, listen={"token": TOKEN, "workers": 2}, log=log) as served:
        asked = served.ask(question(name="q1"))
        assert asked.status_code == 200
        told = {"events": [{"request_id": "q1", "item_id": 3, "feedback": "love"}]}
        with served.client() as client:
            fed = client.post("/v2/models/shop/feedback", json=told)
            assert fed.status_code == 202
            said = [page.text for path in ("/v2", "/v2/models/shop", "/metrics") if (page := client.get(path))]
        for wrong in (secret[:-1], f"{secret}x", "x"):
            refused = httpx.post(f"{served.url}{URL}", json=question(), headers={"Authorization": f"Bearer {wrong}"})
            assert refused.status_code == 401
            said.append(refused.text)
        assert served.stop() == 0
        said += [served.said(), asked.text, fed.text]
    assert [text for text in said if secret in text] == []
    files = [path for folder in (shop.home, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert [path for path in files if "served" in path.parts], "the log was written"


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ({"host": "10.0.0.7"}, "name a token"),
        ({"token": TOKEN}, "needs its token in the environment variable SHOP_TOKEN"),
    ],
)
def test_what_would_be_open_does_not_start(shop: Settings, tmp_path: Path, listen: dict[str, str], said: str) -> None:
    with starting(shop, tmp_path, listen=listen) as served:
        assert served.process.wait(120) == 2
    assert said in " ".join(served.said().split()) and "Traceback" not in served.said()
