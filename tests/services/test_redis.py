"""Is what reaches a real Redis Feast's to the byte, and what is left, said and announced when it refuses?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.data.materialize_features.sentences import one_sentence
from components.platform.errors import BadInputError, RankmillError, RetryableError
from features.joins import online, online_redis
from features.joins.store import materialize, open_shared
from tests.services.servers import HOST, Servers
from tests.unit.features.test_online import SPAN, definitions, views, write
from tests.unit.features.test_online_redis import STORE

pytestmark = pytest.mark.services
__all__ = ["definitions"]


@pytest.fixture(scope="module")
def redis() -> Iterator[Servers]:
    """Redis alone, with a password."""
    servers = Servers()
    try:
        servers.start_redis()
        yield servers
    finally:
        servers.__exit__()


@pytest.fixture
def home(redis: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    redis.redis().config_set("maxmemory", 0)
    redis.redis().flushall()
    point(redis, tmp_path, monkeypatch)
    return tmp_path


def point(servers: Servers, home: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """Have a configuration name the server."""
    address = f"{HOST}:{servers.port['redis']}{more or f',password={servers.password}'}"
    (home / "store.yaml").write_text(STORE.format(folder=home, address=address, more=""))
    monkeypatch.setenv("RANKMILL_FEATURE_STORE", str(home / "store.yaml"))


def dumped(servers: Servers) -> dict[bytes, bytes]:
    """Every key with Redis' own serialisation of what it holds, the order of its fields included."""
    client = servers.redis()
    return {key: client.dump(key) for key in client.keys("*")}


def refused(home: Path, definitions: Any, kind: type[RankmillError]) -> str:
    with pytest.raises(kind) as caught, one_sentence("store.yaml"):
        list(materialize(home / "feast", home, ["by_text"], SPAN, definitions))
    view = open_shared(home / "feast", definitions).get_feature_view("by_text")
    assert view.materialization_intervals == []  # nothing is announced
    return str(caught.value)


def test_the_server_holds_feast_s_bytes(
    redis: Servers, home: Path, definitions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_redis, "ROWS", 7)
    found = {}
    for who in ("ours", "feast"):
        if who == "feast":
            monkeypatch.setattr(online, "can_encode", lambda *_: False)
        redis.redis().flushall()
        for shift in (0, 3, 1):  # the last round is older
            write(home, shift)
            list(materialize(home / who, home, list(views()), SPAN, definitions))
        found[who] = dumped(redis)
    assert len(found["ours"]) == 360
    assert found["ours"] == found["feast"]


def test_a_server_that_is_full_keeps_what_it_has_and_the_next_run_writes_the_rest(
    redis: Servers, home: Path, definitions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, 0)
    list(materialize(home / "whole", home, ["by_text"], SPAN, definitions))
    whole = dumped(redis)
    redis.redis().flushall()
    (home / "registry.db").unlink()
    monkeypatch.setattr(online_redis, "ROWS", 10)
    monkeypatch.setattr(online_redis, "CONNECTIONS", 1)
    written = online_redis._write_block

    def filling(client: Any, *rest: Any) -> None:
        if redis.redis().dbsize() == 20:
            redis.redis().config_set("maxmemory", 1)
        written(client, *rest)

    monkeypatch.setattr(online_redis, "_write_block", filling)
    said = refused(home, definitions, RetryableError)
    assert said.startswith("a server of the online store store.yaml has no room: command not allowed when used memory")
    assert dumped(redis).items() < whole.items() and redis.redis().dbsize() == 20
    redis.redis().config_set("maxmemory", 0)
    monkeypatch.setattr(online_redis, "_write_block", written)
    list(materialize(home / "feast", home, ["by_text"], SPAN, definitions))
    assert dumped(redis) == whole


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (",password=sesame", "invalid username-password pair or user is disabled"),
        (",username=reader,password=sesame", "this user has no permissions to run the 'hset' command"),
    ],
    ids=["wrong password", "no rights"],
)
def test_a_server_that_denies_is_no_server_that_is_gone(
    redis: Servers, home: Path, definitions: Any, monkeypatch: pytest.MonkeyPatch, settings: str, reason: str
) -> None:
    redis.redis().acl_setuser("reader", enabled=True, passwords=["+sesame"], keys=["*"], commands=["+hmget", "+hello"])
    write(home, 0)
    point(redis, home, monkeypatch, settings)
    said = refused(home, definitions, BadInputError)
    assert said == (
        f"redis cannot write the features into the online store store.yaml: {reason}; correct the definitions or the "
        "store's configuration"
    )
    assert dumped(redis) == {}


def test_a_server_that_falls_silent_is_left_after_a_while(
    redis: Servers, home: Path, definitions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, 0)
    point(redis, home, monkeypatch, f",password={redis.password},socket_timeout=0.2,retry=null")
    redis.redis().client_pause(3000)
    said = refused(home, definitions, RetryableError)
    assert said.startswith("a server of the online store store.yaml does not answer: Timeout reading from ")
    assert redis.password not in said
    redis.redis().client_unpause()
