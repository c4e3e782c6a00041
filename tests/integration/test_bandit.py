"""Does a champion get its bandit, and does a service add the bonus to the score, and to nothing else?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from components.data.training_set import SPLITS, read_raw
from components.memory.refresh_bandit.pointer import find_bandit
from components.platform.artifacts import TrainingSet
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.store.publish import open_store
from pipelines.run.service.parts import service_of
from registry.memory.draws import Draw, normals
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel
from registry.serving.server.app import make_app
from registry.serving.wire.config import ServingConfig
from registry.versions.memory_pointer import BANDIT, TAG
from tests.asking import ask, question, until
from tests.homes import ready
from tests.integration.test_error_memory import MODEL, WINDOW, Place, crown, publish, shifted_world
from tests.known_graphs import KnownGraphs
from tests.worlds import write_training_set

pytestmark = pytest.mark.engine
CONFIG: dict[str, Any] = {
    "name": "shop", "model": MODEL, "provider": "cpu", "follow": {"every": "1s"}, "features": {"store": "none"},
    "limits": {"timeout": "30s"},
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, engines: Any, graphs: KnownGraphs) -> Place:
    home = tmp_path_factory.mktemp("bandit")
    settings = ready(home / "home", engines)
    dataset = publish(settings, TrainingSet, write_training_set(home / "set", world=shifted_world()), "dataset")
    return Place(settings, dataset, crown(settings, dataset, home, 0, graphs, "gnolr"))


def refresh(place: Place, **config: Any) -> StageResult:
    request = StageRequest(
        component="refresh_bandit", config={"model": MODEL, "clusters": 4, **config}, window=WINDOW,
        inputs={"dataset": place.dataset},
    )  # fmt: skip
    return execute(request, place.settings)


@contextmanager
def serving(place: Place, **more: Any) -> Iterator[TestClient]:
    app = make_app(service_of(ServingConfig.model_validate(CONFIG | more), place.settings, None))
    with TestClient(app, base_url="http://127.0.0.1:8500") as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        yield client


def test_a_champion_gets_the_same_bandit_twice_and_answers_with_its_bonus(place: Place) -> None:
    rows = read_raw(open_store(place.settings).fetch(place.dataset.load()), "test")
    row = rows.slice(0, 1).to_pylist()[0]
    folder = open_store(place.settings).fetch(place.dataset.load())
    every = pa.concat_tables([read_raw(folder, split) for split in SPLITS])
    with serving(place, explore={}) as client:  # nothing was counted yet
        before = ask(client, MODEL, question(row, "a"))
        assert "exploration" not in {*before.outputs, *before.parameters}

    first = refresh(place)
    assert refresh(place).outputs["bandit"].digest == first.outputs["bandit"].digest
    tags = place.registry.versions(MODEL)[0].tags
    assert first.outputs["bandit"].digest in tags[BANDIT] and TAG not in tags
    found = find_bandit(place.settings, MODEL, place.version.version)
    assert found is not None and found.header.rows == every.num_rows and found.header.feedback == "like"
    np.testing.assert_allclose(found.b.sum(), every["like"].to_numpy().sum(), rtol=1e-9)  # Σ w = 1

    with serving(place, explore={}) as client:
        explored = ask(client, MODEL, question(row, "b"))
        metrics = client.get("/metrics").text
    assert explored.parameters["exploration"] == first.outputs["bandit"].digest[:12]
    assert 'rankmill_explored_total{first="same"} 1.0' in metrics
    bonus = explored.outputs["exploration"][0]
    assert 0 < bonus <= found.header.alpha
    np.testing.assert_allclose(explored.outputs["expected_value"][0], before.outputs["expected_value"][0] + bonus)
    for task in ("like", "love"):
        assert explored.outputs[task][0] == before.outputs[task][0]  # no probability moves

    with serving(place, explore={"by": "draw", "draws": 2, "seed": 5}) as client:
        asked = [ask(client, MODEL, question(row, name)) for name in ("c", "c", "d", "")]
    assert asked[0] == asked[1] and asked[0].parameters["explored_by"] == "draw"
    moves = [one.outputs["exploration"][0] for one in asked]
    assert len(set(moves)) == 3 and abs(moves[0]) != bonus
    deviate = normals(pa.array([row["item_id"]]), Draw("c", 5, 2))[0, 0]
    np.testing.assert_allclose(moves[0], bonus * deviate, rtol=1e-9)
    assert asked[0].outputs["first_propensity"].tolist() == [1.0]  # the one candidate
    assert asked[0].outputs["like"][0] == before.outputs["like"][0]

    for off in ({}, {"explore": {"use": False}}):
        with serving(place, **off) as client:
            same = ask(client, MODEL, question(row, "a"))
        assert same == before


def test_answers_without_a_bandit_are_what_they_were_to_the_bit(place: Place, tmp_path: Any) -> None:
    model = ServedModel.open(place.registry.download(MODEL, place.version.version, tmp_path / "files"), "cpu")
    rows = read_raw(open_store(place.settings).fetch(place.dataset.load()), "test").slice(0, 50)
    refresh(place)
    found = find_bandit(place.settings, MODEL, place.version.version)
    plain, explored = answer(model, rows, value=model.value), answer(model, rows, value=model.value, bandit=found)
    assert plain.bonus is None and plain.expected_value is not None
    assert explored.bonus is not None and explored.expected_value is not None
    assert (plain.expected_value == plain.tasks["love"]).all()
    assert (explored.expected_value == plain.expected_value + explored.bonus).all()
    assert all((plain.tasks[name] == explored.tasks[name]).all() for name in plain.tasks)
    drew = answer(model, rows, value=model.value, bandit=found, draw=Draw("r"))
    assert drew.bonus is not None and drew.expected_value is not None and drew.first is not None
    assert explored.first is None and drew.first.sum() == pytest.approx(1)
    spread = explored.bonus * normals(rows["item_id"], Draw("r"))[0]
    assert (drew.expected_value == plain.expected_value + spread).all()
    assert answer(model, rows, bandit=found).bonus is None  # no score, nothing to add to


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"feedback": "buy"}, "feedback 'buy' is not one of the champion's: like, love"),
        ({"clusters": 10_000, "model": "nobody"}, "nobody"),
    ],
)
def test_what_cannot_be_counted_is_one_sentence(place: Place, config: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as raised:
        refresh(place, **config)
    assert "\n" not in str(raised.value)


def test_a_ranker_without_vectors_of_users_is_refused(
    place: Place, tmp_path: Any, graphs: KnownGraphs, engines: Any
) -> None:
    from dataclasses import replace

    from components.memory.refresh_bandit.component import counted
    from components.memory.refresh_bandit.config import Config

    model = ServedModel.open(place.registry.download(MODEL, place.version.version, tmp_path / "files"), "cpu")
    other = replace(model, contract=model.contract.model_copy(update={"ranker": "esmm"}))
    rows = read_raw(open_store(place.settings).fetch(place.dataset.load()), "test").slice(0, 20)
    with pytest.raises(BadInputError, match=r"ranker 'esmm' has no vectors of users.*use a model of 'gnolr'"):
        counted([rows], other, place.version, Config(model=MODEL))
