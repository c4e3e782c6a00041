"""Is the challenger asked what the champion was asked, on the same rows, and does no caller ever notice?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from registry.serving.answers.answer import answer
from registry.serving.live.counters import Counters
from registry.serving.live.version import reply
from registry.serving.log.segments import Segments
from registry.serving.log.served_log import ServedLog, kept
from registry.serving.model.served_model import ServedModel
from registry.serving.trial.shadow import WAITING, ShadowThread
from registry.serving.wire.config import ServingConfig, Shadow
from registry.serving.wire.protocol import read_reply
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
    stocked,
    until,
)

QUESTIONS = 30
WHOLE = {"shadow": {"share": 1.0}}


@pytest.fixture
def challenger(folders: dict[int, Path]) -> Registry:
    return Registry(folders, 2, served(), alias="challenger")


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    return Segments((tmp_path / "questions").as_uri())


def rows_of_log(segments: Segments) -> pa.Table:
    now = datetime.now(UTC)
    return pa.concat_tables(segments.read(now - timedelta(hours=1), now + timedelta(hours=1)))


def of_role(table: pa.Table, role: str) -> pa.Table:
    found = table.filter(pa.array([one == role for one in table["served.role"].to_pylist()]))
    return found.sort_by("served.row")


def state(client: TestClient, name: str) -> float:
    return counts(client).get(f'rankmill_shadow_total{{state="{name}"}}', 0)


def both_open(client: TestClient) -> None:
    ready(client)
    until(lambda: client.get("/v2/models/shop").json()["parameters"]["shadow"]["version"] == "2")


def asked(client: TestClient) -> list[bytes]:
    """Return the answers to some questions, as bytes; each is asked when the shadow has done the one before."""
    found = []
    for number in range(QUESTIONS):
        items = tuple(range(1, 2 + number % 5))
        found.append(ask(client, question(user=7 + number % 3, items=items, id=f"q{number}")).content)
        if "shadow" in client.get("/v2/models/shop").json()["parameters"]:
            until(lambda number=number: sum(state(client, name) for name in ("scored", "failed")) > number)
    return found


def test_answers_are_the_same_to_the_bit_and_the_log_holds_both(
    registry: Registry, challenger: Registry, segments: Segments
) -> None:
    with running(service(registry, stocked())) as client:
        ready(client)
        alone = asked(client)
    other = stocked()
    for item in (1, 2, 3):  # the champion's rows are taken, not what the challenger's store would say
        other.put("goods", item, {"genres": [], "popularity": -100.0})
    log = ServedLog(segments, seconds=60)
    with running(service(registry, stocked(), log=log, beside=(challenger, other), **WHOLE)) as client:
        both_open(client)
        assert asked(client) == alone
        assert state(client, "scored") == QUESTIONS
    table = rows_of_log(segments)
    champion, shadow = of_role(table, "champion"), of_role(table, "shadow")
    assert {*champion["served.version"].to_pylist()} == {1} and {*shadow["served.version"].to_pylist()} == {2}
    told = ["served.request", "served.row", "served.place", "served.at"]
    raw = [name for name in table.column_names if "." not in name]
    assert champion.select([*told, *raw]).equals(shadow.select([*told, *raw])), "the same rows"
    model = ServedModel.open(challenger.folders[2], "cpu")
    expected = answer(model, shadow.select(raw))
    for task in model.contract.tasks:
        np.testing.assert_allclose(shadow[f"answer.{task}"].to_numpy(), expected.tasks[task], atol=1e-6)
        assert np.abs(shadow[f"answer.{task}"].to_numpy() - champion[f"answer.{task}"].to_numpy()).max() > 1e-3


def test_only_the_share_is_asked_again(registry: Registry, challenger: Registry, segments: Segments) -> None:
    options = {"shadow": {"share": 0.5}}
    wanted = {name for name in (f"q{number}" for number in range(QUESTIONS)) if kept(name, 0.5)}
    log = ServedLog(segments, seconds=60)
    with running(service(registry, stocked(), log=log, beside=(challenger, stocked()), **options)) as client:
        both_open(client)
        done = 0
        for number in range(QUESTIONS):
            ask(client, question(id=f"q{number}"))
            done += f"q{number}" in wanted
            until(lambda done=done: state(client, "scored") == done)
    assert {*of_role(rows_of_log(segments), "shadow")["served.request"].to_pylist()} == wanted


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The challenger waits for this before it answers."""
    event = threading.Event()

    def waiting(*args: object) -> object:
        assert event.wait(60)
        return reply(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("registry.serving.trial.challenger.reply", waiting)
    yield event
    event.set()


def test_what_would_have_to_wait_is_dropped_and_counted(
    registry: Registry, challenger: Registry, segments: Segments, stuck: threading.Event
) -> None:
    log = ServedLog(segments, seconds=60)
    with running(service(registry, stocked(), log=log, beside=(challenger, stocked()), **WHOLE)) as client:
        both_open(client)
        shadow = client.app.state.service.shadow  # type: ignore[attr-defined]
        ask(client, question(id="first"))
        until(lambda: shadow._waiting.empty())
        for number in range(WAITING + 3):
            assert ask(client, question(id=f"q{number}")).status_code == 200
        assert state(client, "dropped") == 3 and state(client, "scored") == 0
        stuck.set()
        until(lambda: state(client, "scored") == WAITING + 1)
    found = {*of_role(rows_of_log(segments), "shadow")["served.request"].to_pylist()}
    assert found == {"first", *(f"q{number}" for number in range(WAITING))}


def test_a_challenger_that_fails_is_nobody_s_business(
    registry: Registry, challenger: Registry, segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the graph is broken")

    monkeypatch.setattr("registry.serving.trial.challenger.reply", broken)
    log = ServedLog(segments, seconds=60)
    beside = (challenger, Shelves(broken=True))
    with running(service(registry, stocked(), log=log, beside=beside, **WHOLE)) as client:
        both_open(client)
        replies = [read_reply(body) for body in asked(client)]
        assert {one.version for one in replies} == {"1"}
        assert all(one.parameters["degraded"] == [] for one in replies)
        assert state(client, "failed") == QUESTIONS
    assert {*rows_of_log(segments)["served.role"].to_pylist()} == {"champion"}


def test_without_a_challenger_it_is_counted_and_nothing_else(
    registry: Registry, challenger: Registry, segments: Segments
) -> None:
    challenger.version = 0
    log = ServedLog(segments, seconds=60)
    with running(service(registry, stocked(), log=log, beside=(challenger, stocked()), **WHOLE)) as client:
        ready(client)
        assert ask(client).status_code == 200
        assert state(client, "absent") == 1
        told = client.get("/v2/models/shop").json()["parameters"]["shadow"]
        assert told == {"alias": "challenger", "version": "", "share": 1.0}


def test_what_the_canary_answered_is_not_asked_of_the_same_version_again(
    registry: Registry, challenger: Registry, segments: Segments
) -> None:
    log = ServedLog(segments, seconds=60)
    options = {**WHOLE, "canary": {"share": 1.0}}
    with running(service(registry, stocked(), log=log, beside=(challenger, stocked()), **options)) as client:
        both_open(client)
        assert read_reply(ask(client, question(id="a")).content).version == "2"
    assert rows_of_log(segments)["served.role"].to_pylist() == ["canary"] * 3


@pytest.mark.parametrize(("share", "logged", "asked_again"), [(0.2, 0.6, 0.2), (0.6, 0.2, 0.2), (0.6, 1.0, 0.6)])
def test_what_the_log_would_not_keep_is_not_asked_again(share: float, logged: float, asked_again: float) -> None:
    config = ServingConfig.model_validate({"name": "shop", "model": "shop", "log": {"share": logged}})
    nobody: Any = None
    thread = ShadowThread(nobody, Shadow(share=share), config, lambda entry: None, Counters.make())
    names = [f"q{number}" for number in range(200)]
    assert [thread.wants(name) for name in names] == [kept(name, asked_again) for name in names]
