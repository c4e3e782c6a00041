"""Does the service find the candidates that its model would have put first, and leave out what it should?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from features.ground.errors import BadInputError
from pipelines.run.service.parts import catalogue_items
from registry.serving.live.lookup import Lookup
from registry.serving.live.retrieve import Catalogue, Index, build_index
from registry.serving.live.version import Live
from registry.serving.server.app import make_app
from registry.serving.wire.config import RetrieveOptions
from registry.serving.wire.protocol import Question, Tensor, question_body, read_reply
from tests.asking import until
from tests.unit.registry.server.shop import NOW, Registry, Shelves, served, service, stocked

URL = "/v2/models/shop/infer"


def question(user: int | None = 7, items: tuple[int, ...] = (), **more: Any) -> bytes:
    tensors = {
        "user_id": Tensor("user_id", "INT64", (1,), (user,)),
        "age_band": Tensor("age_band", "BYTES", (1,), ("35_plus",)),
        "event_timestamp": Tensor("event_timestamp", "BYTES", (1,), ("2024-02-01T12:00:00Z",)),
    }
    if items:
        tensors["item_id"] = Tensor("item_id", "INT64", (len(items),), items)
    return question_body(Question(tensors, **more))


def found(client: TestClient, **more: Any) -> list[int]:
    answer = client.post(URL, content=question(**more))
    assert answer.status_code == 200, answer.text
    reply = read_reply(answer.content)
    items: list[int] = reply.outputs["item_id"].tolist()
    assert all(len(values) == len(items) for values in reply.outputs.values())
    return items


def sentence(client: TestClient, **more: Any) -> tuple[int, str]:
    answer = client.post(URL, content=question(**more))
    return answer.status_code, answer.json().get("error", "")


@pytest.fixture
def registry(model_of: Callable[[str], Path], tmp_path: Path) -> Registry:
    folders = {number: tmp_path / f"v{number}" for number in (1, 2)}
    for folder, name in zip(folders.values(), ("gnolr", "esmm"), strict=True):
        shutil.copytree(model_of(name), folder)
    return Registry(folders, 1, served())


@pytest.fixture
def shelves() -> Shelves:
    return stocked()


def catalogue_of(registry: Registry, shelves: Shelves, file: str | None = None) -> tuple[Any, Catalogue]:
    """Return a service that finds candidates, and what it finds them in."""
    made = service(registry, shelves)
    patient = made.lookup

    def build(live: Live) -> Index:
        return build_index(live, catalogue_items(live, file), patient, NOW)

    catalogue = Catalogue(lambda: made.follower.live, build, 3600)
    config = made.config.model_copy(update={"retrieve": RetrieveOptions(most=1000)})
    return replace(made, config=config, catalogue=catalogue), catalogue


@pytest.fixture
def shop(registry: Registry, shelves: Shelves) -> Iterator[TestClient]:
    served_by, _ = catalogue_of(registry, shelves)
    with TestClient(make_app(served_by), base_url="http://127.0.0.1:8500") as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        yield client


def test_the_best_are_those_that_the_model_puts_first(shop: TestClient) -> None:
    index: Index = shop.app.state.service.catalogue.index  # type: ignore[attr-defined]
    every = tuple(int(str(item)) for item in index.items)
    reply = read_reply(shop.post(URL, content=question(items=every)).content)
    order = (-reply.outputs["expected_value"]).argsort(kind="stable")
    best = [every[place] for place in order[:5].tolist()]
    assert found(shop, retrieve=5) == best
    assert len(found(shop, retrieve=1000)) == len(every), "no more than there are"
    metadata = shop.get("/v2/models/shop").json()
    assert metadata["parameters"]["catalogue"] == len(every)


def test_what_is_excluded_makes_room_for_others(shop: TestClient) -> None:
    best = found(shop, retrieve=6)
    assert found(shop, retrieve=3, exclude=(best[0], best[2], 999_999)) == [best[1], best[3], best[4]]
    every = found(shop, retrieve=1000)
    unseen = found(shop, retrieve=1000, exclude_seen=True)
    assert {*every} - {*unseen} == {3, 5} & {*every} != set()
    assert unseen == [item for item in every if item not in (3, 5)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"retrieve": 3, "items": (1, 2)}, "leave out 'item_id'"),
        ({"retrieve": 1001}, "at most 1000"),
        ({"retrieve": 3, "user": None}, "send the input 'user_id'"),
        ({}, "no input 'item_id'"),
    ],
)
def test_what_cannot_be_found_is_refused(shop: TestClient, asked: dict[str, Any], said: str) -> None:
    status, error = sentence(shop, **asked)
    assert status == 400 and said in error


@pytest.mark.parametrize("wrong", [{"retrieve": 0}, {"retrieve": True}, {"retrieve": 2, "exclude": [1.5]}])
def test_numbers_that_are_none_are_refused(shop: TestClient, wrong: dict[str, Any]) -> None:
    answer = shop.post(URL, json={"inputs": [], "parameters": wrong})
    assert answer.status_code == 400 and "must be" in answer.json()["error"]


def test_a_service_without_a_catalogue_says_so(registry: Registry, shelves: Shelves) -> None:
    with TestClient(make_app(service(registry, shelves)), base_url="http://127.0.0.1:8500") as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        assert sentence(client, retrieve=3) == (
            400,
            "this service finds no candidates itself: send their ids, or give its file `retrieve`",
        )


def test_a_ranker_of_pairs_finds_nothing_and_answers_on(registry: Registry, shelves: Shelves) -> None:
    registry.version = 2
    served_by, _ = catalogue_of(registry, shelves)
    with TestClient(make_app(served_by), base_url="http://127.0.0.1:8500") as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        status, error = sentence(client, retrieve=3)
        assert status == 503 and "scores pairs" in error
        assert client.post(URL, content=question(items=(1, 2))).status_code == 200


def test_another_version_and_a_materialisation_make_it_anew(registry: Registry, shelves: Shelves) -> None:
    served_by, catalogue = catalogue_of(registry, shelves)
    served_by.follower.look()
    catalogue.look()
    first = catalogue.index
    catalogue.look()
    assert first is not None and catalogue.index is first, "nothing has changed"
    catalogue.renew()
    catalogue.look()
    second = catalogue.index
    assert second is not first
    registry.version = 2  # places no items
    served_by.follower.look()
    catalogue.look()
    assert catalogue.index is second and "scores pairs" in catalogue.why, "the last one goes on"


def test_what_fails_is_tried_once_for_a_version_and_then_only_when_it_is_due(
    registry: Registry, shelves: Shelves
) -> None:
    served_by, catalogue = catalogue_of(registry, shelves)
    tried, build = [], catalogue._build
    catalogue._build = lambda live: (tried.append(live.pointed.version), build(live))[1]
    for version in (1, 2):  # the second one places no items
        registry.version = version
        served_by.follower.look()
        for _ in range(3):
            catalogue.look()
    assert tried == [1, 2] and catalogue.index is not None
    catalogue.renew()
    catalogue.look()
    assert tried == [1, 2, 2]


def test_a_store_that_is_gone_is_asked_again(registry: Registry, shelves: Shelves) -> None:
    shelves.broken = True
    served_by, catalogue = catalogue_of(registry, shelves)
    served_by.follower.look()
    catalogue.look()
    assert catalogue.index is None and catalogue.tried and "does not answer" in catalogue.why
    shelves.broken = False
    catalogue.renew()
    catalogue.look()
    assert catalogue.index is not None


def test_the_catalogue_may_be_a_file(registry: Registry, shelves: Shelves, tmp_path: Path) -> None:
    live = registry.open(registry.pointed())
    file = tmp_path / "items.csv"
    file.write_text("item_id,name\n3,c\n1,a\n3,again\n9000,new\n")
    assert catalogue_items(live, str(file)).to_pylist() == [3, 1, 3, 9000]
    lookup = service(registry, shelves).lookup
    assert isinstance(lookup, Lookup)
    index = build_index(live, catalogue_items(live, str(file)), lookup, NOW)
    assert index.items == (3, 1, 9000) and index.vectors.shape[0] == 3
    file.write_text("id\n3\n")
    with pytest.raises(BadInputError, match="has no column 'item_id'"):
        catalogue_items(live, str(file))
    with pytest.raises(BadInputError, match="holds no items"):
        build_index(live, pa.chunked_array([pa.array([], pa.int64())]), lookup, NOW)
