"""Does what a service answered teach its error memory what a replay of the same rows would, and change its answers?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from components.data.training_set import read_raw
from components.memory.refresh_error_memory.pointer import find_memory
from components.platform.artifacts import TrainingSet
from components.platform.errors import MissingError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.store.publish import open_store
from features.declaration import Window
from pipelines.run.service.parts import service_of
from registry.serving.answers.answer import answer
from registry.serving.log.segments import segments_of
from registry.serving.model.served_model import ServedModel
from registry.serving.server.app import make_app
from registry.serving.wire.config import ServingConfig
from tests.asking import ask, question, until
from tests.homes import ready
from tests.integration.test_error_memory import MODEL, Place, crown, files_of, publish, refresh, shifted_world
from tests.known_graphs import KnownGraphs
from tests.worlds import write_training_set

pytestmark = pytest.mark.engine
AFTER = 2
CONFIG = ServingConfig.model_validate(
    {
        "name": "shop",
        "model": MODEL,
        "provider": "cpu",
        "follow": {"every": "1s"},
        "features": {"store": "none"},
        "limits": {"timeout": "30s"},
        "log": {"segment": "1s"},
    }
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, engines: Path, graphs: KnownGraphs) -> Place:
    home = tmp_path_factory.mktemp("served")
    settings = ready(home / "home", engines)
    dataset = publish(settings, TrainingSet, write_training_set(home / "set", world=shifted_world()), "dataset")
    return Place(settings, dataset, crown(settings, dataset, home, 0, graphs))


@pytest.fixture(scope="module")
def rows(place: Place) -> pa.Table:
    """What the champion was not trained on."""
    return read_raw(open_store(place.settings).fetch(place.dataset.load()), "test")


@pytest.fixture(scope="module")
def shop(place: Place) -> Iterator[TestClient]:
    app = make_app(service_of(CONFIG, place.settings, None))
    with TestClient(app, base_url="http://127.0.0.1:8500") as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def taught(place: Place, shop: TestClient, rows: pa.Table) -> StageResult:
    """The champion's memory, after every row was asked about and its feedback told."""
    began = datetime.now(UTC)
    events = []
    for row in rows.to_pylist():
        name = f"q{row['row_id']}"
        now = datetime.now(UTC).isoformat()  # before the answer, so that it is in time however busy the machine is
        ask(shop, MODEL, question(row, name))
        told = [feedback for feedback in ("like", "love") if row[feedback]]
        events += [
            {"request_id": name, "item_id": row["item_id"], "feedback": feedback, "at": now} for feedback in told
        ]
    for _ in range(2):  # what is sent twice counts once
        sent = shop.post(f"/v2/models/{MODEL}/feedback", json={"events": events})
        assert sent.status_code == 202
        events = [event | {"event_id": "again"} for event in events[:1]]
    closed = datetime.now(UTC) + timedelta(seconds=AFTER)
    log, _ = segments_of(place.settings.artifacts, "shop")
    until(lambda: sum(table.num_rows for table in log.read(began, datetime.now(UTC))) == rows.num_rows)
    until(lambda: datetime.now(UTC) > closed)
    window = Window(start=began, end=datetime.now(UTC))
    request = StageRequest(
        component="ingest_served",
        config={"serving": "shop", "feedback": ["like", "love"], "after": f"{AFTER}s"},
        inputs={},
        window=window,
    )
    served = execute(request, place.settings)
    assert f"{rows.num_rows:,} of {rows.num_rows:,} answered rows labelled" in " ".join(served.notes)
    return refresh(place, served.outputs["rows"])


def test_an_answer_of_a_moment_ago_is_no_negative_yet(place: Place, taught: StageResult) -> None:
    """The window of a day that is not over holds answers whose feedback may still come."""
    now = datetime.now(UTC)
    window = Window(start=now - timedelta(hours=1), end=now + timedelta(days=1))
    config = {"serving": "shop", "feedback": ["like", "love"], "after": "1h"}
    request = StageRequest(component="ingest_served", config=config, inputs={}, window=window)
    with pytest.raises(MissingError, match="is old enough to be labelled"):
        execute(request, place.settings)


def test_served_rows_teach_what_a_replay_teaches_to_the_bit(place: Place, taught: StageResult) -> None:
    served = files_of(place, taught) / "memory.safetensors"
    replayed = files_of(place, refresh(place)) / "memory.safetensors"
    assert served.read_bytes() == replayed.read_bytes()


def test_the_service_takes_its_new_memory_and_answers_as_score_does(
    place: Place, taught: StageResult, shop: TestClient, rows: pa.Table
) -> None:
    some = rows.slice(0, 40)
    until(lambda: ask(shop, MODEL, question(some.to_pylist()[0])).parameters["memory"])
    found = [ask(shop, MODEL, question(row)).outputs for row in some.to_pylist()]
    memory = find_memory(place.settings, MODEL, place.version.version)
    assert memory is not None and memory.header.enabled
    folder = place.settings.home / "model"
    model = ServedModel.open(place.registry.download(MODEL, place.version.version, folder), "cpu")
    # Row by row, as they were asked: the last bit of a product depends on how many rows are multiplied at once.
    expected = [answer(model, some.slice(place, 1), memory=memory) for place in range(some.num_rows)]
    for task in model.contract.tasks:
        np.testing.assert_array_equal([one[task] for one in found], [one.tasks[task] for one in expected])
    assert max(abs(one.tasks["love"][0] - one.base["love"][0]) for one in expected) > 0.01
