"""Does a service that learns from its own log change its answers, without a pipeline, as a replay would have it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from starlette.testclient import TestClient

from components.data.training_set import read_raw
from components.memory.refresh_error_memory.pointer import find_memory
from components.platform.artifacts import TrainingSet
from components.platform.execute import StageRequest, execute
from components.platform.store.publish import open_store
from features.declaration import Window
from pipelines.run.service.parts import service_of
from registry.memory.error_memory import Memory
from registry.memory.prequential import Stream, replay, slot_bounds
from registry.memory.sketch import Sketch
from registry.serving.answers.answer import answer
from registry.serving.learning.learner import Learner
from registry.serving.log.segments import segments_of
from registry.serving.model.served_model import ServedModel
from registry.serving.server.app import Service, make_app
from tests.asking import ask, question, until
from tests.homes import ready
from tests.integration.test_error_memory import MODEL, Place, crown, publish, refresh, shifted_world, variant
from tests.integration.test_served_memory import CONFIG
from tests.known_graphs import KnownGraphs
from tests.worlds import write_training_set

pytestmark = pytest.mark.engine
AFTER = timedelta(minutes=10)
TASKS = ("like", "love")
LEARNS = CONFIG.model_copy(
    update={
        "name": "learns",
        # The thread looks once, at the start; the test looks for it, at the moments that it chooses.
        "memory": CONFIG.memory.model_copy(update={"live": True, "after": AFTER, "refresh": timedelta(hours=1)}),
    }
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, engines: Path, graphs: KnownGraphs) -> Place:
    home = tmp_path_factory.mktemp("live")
    settings = ready(home / "home", engines)
    dataset = publish(settings, TrainingSet, write_training_set(home / "set", world=shifted_world()), "dataset")
    return Place(settings, dataset, crown(settings, dataset, home, 0, graphs))


@pytest.fixture(scope="module")
def rows(place: Place) -> pa.Table:
    """What the champion was not trained on."""
    return read_raw(open_store(place.settings).fetch(place.dataset.load()), "test")


@pytest.fixture(scope="module")
def base(place: Place, rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Memory:
    """The memory that a pipeline made of the first rows, and that the service begins with."""
    cut = pa.scalar(rows["event_timestamp"][200].as_py(), pa.timestamp("us", "UTC"))

    def earlier(table: pa.Table) -> pa.Table:
        return table.filter(pc.less(table["event_timestamp"], cut))

    refresh(place, variant(place, "base", tmp_path_factory.mktemp("base"), earlier))
    found = find_memory(place.settings, MODEL, place.version.version)
    assert found is not None and found.header.rows == 200 and found.header.enabled
    return found


@pytest.fixture(scope="module")
def service(place: Place, base: Memory) -> Service:
    made = service_of(LEARNS, place.settings, None)
    assert isinstance(made, Service)
    return made


@pytest.fixture(scope="module")
def shop(service: Service) -> Iterator[TestClient]:
    with TestClient(make_app(service), base_url="http://127.0.0.1:8500") as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        yield client


def look(service: Service) -> None:
    """Let the service look at its log when the time for feedback on all of it is over."""
    assert isinstance(service.learner, Learner)
    service.learner.step(datetime.now(UTC) + 2 * AFTER)


@pytest.fixture(scope="module")
def told(place: Place, shop: TestClient, rows: pa.Table) -> pa.Table:
    """The log, after every row that the base does not cover was asked about, and its feedback told."""
    began = datetime.now(UTC)
    events = []
    late = rows.slice(200)
    for row in late.to_pylist():
        name = f"q{row['row_id']}"
        ask(shop, MODEL, question(row, name))
        now = datetime.now(UTC).isoformat()
        happened = [feedback for feedback in TASKS if row[feedback]]
        events += [{"request_id": name, "item_id": row["item_id"], "feedback": one, "at": now} for one in happened]
    for sent in (events, events[:5]):  # what is sent twice counts once
        assert shop.post(f"/v2/models/{MODEL}/feedback", json={"events": sent}).status_code == 202
    log, _ = segments_of(place.settings.artifacts, "learns")
    until(lambda: sum(table.num_rows for table in log.read(began, datetime.now(UTC))) == late.num_rows)
    return pa.concat_tables([*log.read(began, datetime.now(UTC))]).sort_by("event_timestamp")


def replayed(base: Memory, log: pa.Table, rows: pa.Table) -> Memory:
    """Return the base after a replay of the logged rows, with the labels that the world gave them."""
    truth = {f"q{row['row_id']}": row for row in rows.to_pylist()}
    hidden = np.stack(log["hidden."].to_pylist()).astype(np.float32)
    stream = Stream(
        times=log["event_timestamp"].cast(pa.int64()).to_numpy(),
        users=log["user_id"].to_numpy(),
        keys=base.keys(hidden, log),
        labels={t: np.array([truth[name][t] for name in log["served.request"].to_pylist()], float) for t in TASKS},
        predicted={t: log[f"base.{t}"].to_numpy() for t in TASKS},
    )
    assert isinstance(base.store, Sketch)
    store = base.store.fresh()
    replay(
        stream,
        store,
        TASKS,
        bounds=slot_bounds(stream.times, 7),
        read_out=base.header.read_out,
        grid=(0.0,),
        funnel=True,
    )
    return replace(base, store=base.store.merged(store))


def test_answers_change_without_a_pipeline_as_the_replay_of_the_same_rows_says(
    place: Place, service: Service, shop: TestClient, base: Memory, told: pa.Table, rows: pa.Table
) -> None:
    some = rows.slice(0, 40)
    before = [ask(shop, MODEL, question(row)) for row in some.to_pylist()]
    assert "+" not in before[0].parameters["memory"], "nothing is learned before its time is over"
    look(service)
    after = [ask(shop, MODEL, question(row)) for row in some.to_pylist()]
    digest, _, slots = after[0].parameters["memory"].partition("+")
    assert digest == before[0].parameters["memory"] and int(slots) >= 1
    expected = replayed(base, told, rows)
    directory = place.registry.download(MODEL, place.version.version, place.settings.home / "model")
    model = ServedModel.open(directory, "cpu")
    scored = [answer(model, some.slice(at, 1), memory=expected) for at in range(some.num_rows)]
    for task in TASKS:
        np.testing.assert_array_equal([one.outputs[task] for one in after], [one.tasks[task] for one in scored])
    moved = [abs(one.outputs["love"][0] - two.outputs["love"][0]) for one, two in zip(before, after, strict=True)]
    assert max(moved) > 0.01


def test_another_process_and_one_that_starts_again_know_the_same(
    place: Place, service: Service, base: Memory, told: pa.Table, rows: pa.Table
) -> None:
    look(service)
    other = service_of(LEARNS, place.settings, None)
    other.follower.look()
    look(other)
    expected = replayed(base, told, rows).store.tensors()
    for one in (service, other):
        live = one.follower.live
        assert live is not None and one.learner is not None
        memory = one.learner.applied(live).memory
        assert memory is not None
        for name, sums in memory.store.tensors().items():
            np.testing.assert_array_equal(sums, expected[name], err_msg=name)


class Later(datetime):
    """A clock that is past the time for feedback."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + 2 * AFTER


def test_a_refresh_takes_the_place_of_what_was_learned_and_has_learned_the_same(
    place: Place,
    service: Service,
    shop: TestClient,
    base: Memory,
    told: pa.Table,
    rows: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Last: it gives the version a new base. Its pipeline scores the rows again, many at once, so that a last bit of a
    hidden vector may differ, and with it the bucket of a row in an array."""
    asked = told["served.at"].to_pylist()
    window = Window(
        start=min(asked), end=max(asked) + timedelta(microseconds=1), known_until=datetime.now(UTC) + 2 * AFTER
    )
    request = StageRequest(
        component="ingest_served",
        config={"serving": "learns", "feedback": list(TASKS), "after": "10m"},
        inputs={},
        window=window,
    )
    monkeypatch.setattr("components.ingest.ingest_served.component.datetime", Later)
    refreshed = refresh(place, execute(request, place.settings).outputs["rows"])
    memory = find_memory(place.settings, MODEL, place.version.version)
    assert memory is not None and memory.header.rows == told.num_rows
    expected = replayed(base, told, rows).store.tensors()
    for name, sums in memory.store.tensors().items():
        learned = expected[name] - base.store.tensors()[name]
        assert np.abs(sums - learned).sum() <= 1e-3 * np.abs(learned).sum(), name
    digest = refreshed.outputs["error_memory"].digest
    row = rows.slice(0, 1).to_pylist()[0]
    until(lambda: ask(shop, MODEL, question(row)).parameters["memory"] == digest[:12])
    look(service)
    assert ask(shop, MODEL, question(row)).parameters["memory"] == digest[:12], "it covers all that was learned"
