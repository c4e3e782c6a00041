"""Does a share of the users get the challenger, always the same ones, until it fails too often and only then?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from registry.serving.live.version import reply
from registry.serving.log.segments import Segments
from registry.serving.log.served_log import ServedLog
from registry.serving.trial.canary import FEW, WINDOW, StopRule, in_share
from registry.serving.wire.config import Stop
from registry.serving.wire.protocol import Question, RefusedError, Reply, Tensor, read_reply
from tests.unit.registry.server.shop import (
    Registry,
    Shelves,
    ask,
    counts,
    question,
    ready,
    running,
    served,
    service,
    until,
)

HALF = {"canary": {"share": 0.5}}
USERS = range(1, 61)


def test_a_user_stays_where_the_hash_says() -> None:
    """Who is chosen on every machine and must be after every release."""
    chosen = {name: [user for user in range(20) if in_share(user, name, 0.3)] for name in ("shop", "feed")}
    assert chosen == {"shop": [0, 17], "feed": [13, 15, 16, 19]}
    names = ("anna", "ben", "chris", "dora", "emil")
    assert [name for name in names if in_share(name, "shop", 0.5)] == ["chris", "emil"]
    assert in_share(17, "shop", 0.3) == in_share("17", "shop", 0.3)


@given(st.one_of(st.integers(), st.text(max_size=40)), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_whom_a_smaller_one_has(user: int | str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert in_share(user, "shop", small) <= in_share(user, "shop", large)
    assert in_share(user, "shop", 1.0) and not in_share(user, "shop", 0.0)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
def test_the_share_is_what_was_asked_for_and_services_choose_apart(share: float) -> None:
    count = 20_000
    shop, feed = (np.array([in_share(user, name, share) for user in range(count)]) for name in ("shop", "feed"))
    for chosen, expected in ((shop, share), (feed, share), (shop & feed, share * share)):
        assert abs(chosen.mean() - expected) < 3 * np.sqrt(expected * (1 - expected) / count)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def broken_by(rule: Stop, seen: list[tuple[float, float, bool]]) -> str | None:
    """Return why a rule should have tripped, by looking at the whole window after every answer."""
    for place in range(len(seen)):
        window = [one for one in seen[: place + 1] if one[0] > seen[place][0] - WINDOW]
        failed = sum(one[2] for one in window)
        slow = sum(one[1] > rule.p99.total_seconds() for one in window)
        if failed >= FEW and failed / len(window) > rule.errors:
            return "errors"
        if slow >= FEW and slow / len(window) > 0.01:
            return "p99"
    return None


@given(
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from([0.1, 0.2]), st.booleans()), max_size=60),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    st.sampled_from([150, 200]),
)
def test_the_rule_trips_when_the_window_breaks_it_and_only_then(
    answers: list[tuple[int, float, bool]], errors: float, p99: int
) -> None:
    stop, clock, seen, tripped = Stop(errors=errors, p99=timedelta(milliseconds=p99)), Clock(), [], 0
    rule = StopRule(stop, clock)
    for pause, seconds, failed in answers:
        clock.now += pause
        seen.append((clock.now, seconds, failed))
        tripped += rule.note(seconds, failed=failed)
        assert rule.tripped == broken_by(stop, seen)
    assert tripped == (rule.tripped is not None), "it is told once"


def test_one_slow_answer_in_a_hundred_is_what_a_p99_allows() -> None:
    rule = StopRule(Stop(p99=timedelta(milliseconds=100)), Clock())
    for number in range(1000):
        assert not rule.note(0.2 if number % 100 == 99 else 0.05, failed=False)
    rule.note(0.2, failed=False)
    assert rule.tripped == "p99"


@pytest.fixture
def challenger(folders: dict[int, Path]) -> Registry:
    return Registry(folders, 2, served(), alias="challenger")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[ServedLog, Segments]]:
    segments = Segments((tmp_path / "questions").as_uri())
    yield ServedLog(segments, seconds=60), segments


@pytest.fixture
def shop(registry: Registry, shelves: Shelves, challenger: Registry) -> Iterator[TestClient]:
    with running(service(registry, shelves, beside=(challenger, shelves), **HALF)) as client:
        both_open(client)
        yield client


def both_open(client: TestClient) -> None:
    ready(client)
    until(lambda: client.get("/v2/models/shop").json()["parameters"]["canary"]["version"] == "2")


def answered(client: TestClient, user: int, **more: Any) -> Reply:
    found = ask(client, question(user=user, **more))
    assert found.status_code == 200, found.text
    return read_reply(found.content)


def of_share(count: int = 10**9) -> list[int]:
    return [user for user in USERS if in_share(user, "shop", 0.5)][:count]


def test_users_of_the_share_get_the_challenger_after_every_start(
    registry: Registry, shelves: Shelves, challenger: Registry, log: tuple[ServedLog, Segments]
) -> None:
    began = datetime.now(UTC)
    wanted = {user: ("2", "canary") if user in of_share() else ("1", "champion") for user in USERS}
    for kept in (log[0], None):
        with running(service(registry, shelves, beside=(challenger, shelves), log=kept, **HALF)) as client:
            both_open(client)
            replies = {user: answered(client, user, id=f"q{user}") for user in USERS}
            assert {user: (one.version, one.parameters["role"]) for user, one in replies.items()} == wanted
            assert all(not one.parameters["degraded"] for one in replies.values())
            told = counts(client)
            assert told['rankmill_requests_total{code="200",role="canary"}'] == len(of_share())
            assert told['rankmill_canary_total{state="answered"}'] == len(of_share())
    rows = pa.concat_tables(log[1].read(began - timedelta(hours=1), began + timedelta(hours=2)))
    kept_as = {(row["user_id"], str(row["served.version"]), row["served.role"]) for row in rows.to_pylist()}
    assert kept_as == {(user, *found) for user, found in wanted.items()}
    assert {*rows["served.propensity"].to_pylist()} == {0.5}


def test_the_log_says_the_chance_of_each_arm(
    registry: Registry, shelves: Shelves, challenger: Registry, log: tuple[ServedLog, Segments]
) -> None:
    began = datetime.now(UTC)
    with running(service(registry, shelves, beside=(challenger, shelves), log=log[0], canary={"share": 0.2})) as client:
        both_open(client)
        for user in USERS:
            answered(client, user)
        items = {name: tensor for name, tensor in question().tensors.items() if name != "user_id"}
        assert read_reply(ask(client, Question(items)).content).version == "1", "nobody asked"
        by_number = client.post("/v2/models/shop/versions/1/infer", content=b"")
        assert by_number.status_code == 400
    rows = pa.concat_tables(log[1].read(began - timedelta(hours=1), began + timedelta(hours=2))).to_pylist()
    assert {(row["served.role"], row["served.propensity"]) for row in rows if row["user_id"] is not None} == {
        ("canary", 0.2),
        ("champion", 0.8),
    }
    assert {row["served.propensity"] for row in rows if row["user_id"] is None} == {1.0}


def test_who_asks_for_a_version_gets_it(shop: TestClient) -> None:
    from registry.serving.wire.protocol import question_body

    body = question_body(question(user=of_share(1)[0]))
    assert read_reply(shop.post("/v2/models/shop/versions/1/infer", content=body).content).version == "1"
    assert read_reply(shop.post("/v2/models/shop/infer", content=body).content).version == "2"


def test_an_alias_that_points_nowhere_is_not_there_and_the_service_is_ready(
    registry: Registry, shelves: Shelves, challenger: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    challenger.version = 0
    with (
        caplog.at_level(logging.INFO, "rankmill.serving"),
        running(service(registry, shelves, beside=(challenger, shelves), **HALF)) as client,
    ):
        ready(client)
        until(lambda: "no alias 'challenger'" in caplog.text)
        assert {answered(client, user).version for user in USERS} == {"1"}
        assert counts(client)['rankmill_canary_total{state="absent"}'] == len(USERS)
        challenger.version = 2
        both_open(client)
        assert answered(client, of_share(1)[0]).version == "2"
        challenger.version = 0
        until(lambda: client.get("/v2/models/shop").json()["parameters"]["canary"]["version"] == "")
        assert answered(client, of_share(1)[0]).version == "1"
        assert caplog.text.count("no alias 'challenger'") <= 2, "once each time that it goes away"
        assert counts(client)['rankmill_version_info{model="shop",role="challenger",version="2"}'] == 0


def test_what_only_the_champion_reads_is_no_mistake(shop: TestClient) -> None:
    follower = shop.app.state.service.follower  # type: ignore[attr-defined]
    follower.stop()
    live = follower.live
    follower.live = replace(live, reads=replace(live.reads, needed=(*live.reads.needed, "weather")))
    weather = {"weather": Tensor("weather", "BYTES", (1,), ("rain",))}
    for user in of_share(3):
        found = ask(shop, Question({**question(user=user).tensors, **weather}))
        assert read_reply(found.content).parameters["role"] == "canary"
    nonsense = {"wheather": Tensor("wheather", "BYTES", (1,), ("rain",))}
    refused = ask(shop, Question({**question(user=of_share(1)[0]).tensors, **nonsense}))
    assert refused.status_code == 400 and "did you mean 'weather'" in refused.json()["error"], "as the champion says"


@dataclass
class Fault:
    """What the challenger does instead of answering."""

    error: Exception | None = None

    def __call__(self, live: Any, *args: Any) -> Any:
        if self.error is not None:
            assert live.alias == "challenger"
            raise self.error
        return reply(live, *args)


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    made = Fault()
    monkeypatch.setattr("registry.serving.trial.challenger.reply", made)
    return made


@pytest.mark.parametrize("error", [RuntimeError("the graph is broken"), RefusedError(400, "no such input")])
def test_errors_are_answered_by_the_champion_and_end_the_canary(
    shop: TestClient, fault: Fault, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    canary = shop.app.state.service.canary  # type: ignore[attr-defined]
    mine = of_share()
    for user in mine:
        assert answered(shop, user).version == "2"
        assert ask(shop, question(user=user, outputs=("lowe",))).status_code == 400
    assert not canary.stopped and canary.share == 0.5, "what callers do wrong ends nothing"
    before = counts(shop)
    fault.error = error
    with caplog.at_level(logging.WARNING, "rankmill.serving"):
        for user in mine[:FEW]:
            assert not canary.stopped
            found = answered(shop, user)
            assert (found.version, found.parameters["role"]) == ("1", "champion")
            assert found.parameters["degraded"] == ["canary"]
        assert canary.stopped == "errors"
        for user in mine:
            assert answered(shop, user).parameters["degraded"] == []
    fault.error = None
    assert answered(shop, mine[0]).version == "1", "it does not come back by itself"
    after = counts(shop)
    for name, more in {
        'rankmill_canary_total{state="failed"}': FEW,
        'rankmill_degraded_total{reason="canary"}': FEW,
        'rankmill_canary_stops_total{reason="errors"}': 1,
    }.items():
        assert after[name] - before.get(name, 0) == more, name
    assert after["rankmill_canary_stopped"] == 1
    assert caplog.text.count("is given up") == 1 and caplog.text.count(str(error)) >= 1
    told = shop.get("/v2/models/shop").json()["parameters"]["canary"]
    assert told == {"alias": "challenger", "version": "2", "share": 0.0, "stopped": "errors"}


def test_a_store_that_fails_for_the_challenger_does_not_fail_for_the_champion(
    registry: Registry, shelves: Shelves, challenger: Registry
) -> None:
    with running(service(registry, shelves, beside=(challenger, Shelves(broken=True)), **HALF)) as client:
        both_open(client)
        for user in USERS:
            found = answered(client, user)
            assert found.parameters["degraded"] == (["features"] if found.version == "2" else [])
