"""Does the service answer as the model does, on the standard protocol, to those who may ask, and in sentences?"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from starlette.testclient import TestClient

from registry.serving.answers.answer import answer
from registry.serving.evidence.golden import ANSWER, GOLDEN, write_golden
from registry.serving.live.rows import rows_of
from registry.serving.log.feedback import FeedbackLog
from registry.serving.log.segments import Segments
from registry.serving.log.served_log import ServedLog
from registry.serving.model.served_model import ServedModel
from registry.serving.scores.calibration import CALIBRATION, Calibration
from registry.serving.scores.multiplier import Multiplier
from registry.serving.scores.value import ValueTable
from registry.serving.server.app import make_app
from registry.serving.wire.protocol import Question, Tensor, parse, question_body, read_reply
from tests.unit.registry.server.shop import (
    URL,
    Registry,
    Shelves,
    ask,
    counts,
    question,
    ready,
    running,
    service,
    stocked,
    until,
)

FAILED = 'rankmill_follow_failures_total{reason="version"}'


@pytest.fixture
def shop(registry: Registry, shelves: Shelves) -> Iterator[TestClient]:
    with running(service(registry, shelves)) as client:
        yield client


def test_the_answer_is_that_of_the_model_to_the_same_rows(shop: TestClient, registry: Registry) -> None:
    ready(shop)
    answered = ask(shop, question(id="7f0c", outputs=("love", "expected_value", "rank")))
    assert answered.status_code == 200, answered.text
    found = read_reply(answered.content)
    live = shop.app.state.service.follower.live  # type: ignore[attr-defined]
    rows = rows_of(parse(question_body(question())), live.reads, shop.app.state.service.lookup, None, 10).table  # type: ignore
    model = ServedModel.open(registry.folders[1], "cpu")
    expected = answer(model, rows, value=model.value)
    np.testing.assert_array_equal(found.outputs["love"], expected.tasks["love"])
    assert expected.expected_value is not None
    np.testing.assert_array_equal(found.outputs["expected_value"], expected.expected_value)
    assert [*found.outputs] == ["love", "expected_value", "rank"]
    order = np.argsort(-expected.expected_value)
    assert found.outputs["rank"][order].tolist() == [1, 2, 3]
    assert (found.id, found.model, found.version) == ("7f0c", "shop", "1")
    assert found.parameters["role"] == "champion" and found.parameters["degraded"] == []


def test_a_question_brings_what_its_scores_are_multiplied_by(registry: Registry, shelves: Shelves) -> None:
    folder = registry.folders[1]
    with running(service(registry, stocked())) as client:
        ready(client)
        plain = read_reply(ask(client, question(outputs=("love", "expected_value"))).content).outputs
    factors = (Multiplier(column="bid", least=0.5, most=4.0), Multiplier(column="item_id", factors={"2": 3.0}))
    digest = ServedModel.open(folder, "cpu").contract.ranker_digest
    of_the_version = Calibration(
        ranker_digest=digest, dataset_digest="", method="none", value=ValueTable(multiply=factors)
    )
    (folder / CALIBRATION).write_text(of_the_version.model_dump_json(), encoding="utf-8")
    asked = question(outputs=("love", "expected_value"))
    bids = Tensor("bid", "FP64", (3,), (9.0, None, 2.0))
    with running(service(registry, shelves)) as client:
        ready(client)
        told = ask(client, replace(asked, tensors={**asked.tensors, "bid": bids}))
        left_out = ask(client, asked)
        wrong = ask(client, replace(asked, tensors={**asked.tensors, "bid": replace(bids, data=(-1.0, 1.0, 1.0))}))
        described = client.get("/v2/models/shop").json()["inputs"]
    found = read_reply(told.content).outputs
    np.testing.assert_array_equal(found["love"], plain["love"])
    np.testing.assert_array_equal(found["expected_value"], plain["expected_value"] * [4.0, 1.0, 2.0] * [1.0, 1.0, 3.0])
    np.testing.assert_array_equal(
        read_reply(left_out.content).outputs["expected_value"], plain["expected_value"] * [1.0, 1.0, 3.0]
    )
    assert wrong.status_code == 400 and "'bid' holds -1, by which no score can be multiplied" in wrong.text
    assert {"name": "bid", "datatype": "FP64", "shape": [-1], "parameters": {}} in described


def test_all_outputs_but_the_rank_come_unasked(shop: TestClient) -> None:
    ready(shop)
    assert [*read_reply(ask(shop).content).outputs] == ["like", "love", "love_given_like", "expected_value"]


def test_the_service_tells_what_it_is_and_what_it_reads(shop: TestClient) -> None:
    ready(shop)
    assert shop.get("/v2").json()["name"] == "rankmill"
    told = shop.get("/v2/models/shop").json()
    inputs = {one["name"]: one for one in told["inputs"]}
    assert inputs["popularity"]["parameters"] == {"supplied_by": "goods"}
    assert inputs["age_band"]["parameters"] == {} and inputs["age_band"]["datatype"] == "BYTES"
    assert inputs["recent_items"]["shape"] == [-1, -1]
    assert told["versions"] == ["1"] and told["parameters"]["features"] == "shop"
    assert shop.get("/v2/models/shop/ready").status_code == 200
    assert shop.get("/v2/models/shop/versions/1").status_code == 200


def test_a_promotion_is_followed_and_a_broken_version_is_not(
    shop: TestClient, registry: Registry, folders: dict[int, Path]
) -> None:
    ready(shop)
    before = counts(shop).get(FAILED, 0)
    registry.version = 2
    until(lambda: read_reply(ask(shop).content).version == "2")
    shutil.copytree(folders[1], folders[1].with_name("v3"))
    registry.folders = {**folders, 3: folders[1].with_name("v3")}
    (registry.folders[3] / "model.onnx").write_bytes(b"no graph")
    registry.version = 3
    until(lambda: counts(shop).get(FAILED, 0) > before)
    assert read_reply(ask(shop).content).version == "2"
    assert shop.get("/v2/health/ready").status_code == 200


def test_a_version_that_answers_its_golden_rows_otherwise_is_not_taken(
    shop: TestClient, registry: Registry, folders: dict[int, Path]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ready(shop)
    before = counts(shop).get(FAILED, 0)
    model = ServedModel.open(folders[2], "cpu")
    rows = rows_of(question(), shop.app.state.service.follower.live.reads, None, None, 10).table  # type: ignore
    write_golden(model, rows, folders[2])
    table = pq.read_table(folders[2] / GOLDEN)
    moved = pa.array(table[f"{ANSWER}like"].to_numpy() + 0.001)
    table = table.set_column(table.column_names.index(f"{ANSWER}like"), f"{ANSWER}like", moved)
    pq.write_table(table, folders[2] / GOLDEN)
    registry.version = 2
    until(lambda: counts(shop).get(FAILED, 0) > before)
    assert read_reply(ask(shop).content).version == "1"
    write_golden(model, rows, folders[2])
    until(lambda: read_reply(ask(shop).content).version == "2")


def test_without_a_registry_it_goes_on_and_says_so(shop: TestClient, registry: Registry) -> None:
    ready(shop)
    registry.down = True
    until(lambda: read_reply(ask(shop).content).parameters["degraded"] == ["registry"])


def test_before_a_version_is_open_it_lives_and_is_not_ready(registry: Registry, shelves: Shelves) -> None:
    registry.down = True
    with running(service(registry, shelves)) as shop:
        assert shop.get("/v2/health/live").status_code == 200
        assert shop.get("/v2/health/ready").status_code == 503
        refused = ask(shop)
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert "no version of shop is open yet" in refused.json()["error"]


def test_what_is_missing_is_named_counted_and_refused_where_that_is_wanted(
    registry: Registry, shelves: Shelves
) -> None:
    with running(service(registry, shelves)) as shop:
        ready(shop)
        name = 'rankmill_feature_missing_total{reason="unknown",view="shopper"}'
        before = counts(shop).get(name, 0)
        found = read_reply(ask(shop, question(user=99, items=(1, 77))).content)
        assert found.parameters["missing"] == {"goods": 1, "shopper": 2}
        assert counts(shop)[name] - before == 2
        shelves.broken = True
        assert read_reply(ask(shop, question(items=(2,))).content).parameters["degraded"] == ["features"]
    strict = {"features": "refuse", "missing_user": "refuse"}
    with running(service(registry, stocked(), fallback=strict)) as shop:
        ready(shop)
        refused = ask(shop, question(user=99))
        assert refused.status_code == 400 and "nothing is known of the user_id" in refused.json()["error"]
        shop.app.state.service.lookup._store.broken = True  # type: ignore[attr-defined]
        assert ask(shop, question(items=(2,))).status_code == 503


def test_without_a_store_questions_bring_everything(registry: Registry) -> None:
    with running(service(registry, None, features={"store": "none"})) as shop:
        ready(shop)
        assert ask(shop).status_code == 200
        told = shop.get("/v2/models/shop").json()
        assert all(not one["parameters"] for one in told["inputs"]) and told["parameters"]["features"] == "none"


MISTAKES = {
    "another model": ("post", "/v2/models/shap/infer", 404, "ask 'shop'"),
    "another version": ("post", "/v2/models/shop/versions/9/infer", 404, "v1 answers"),
    "no address of ours": ("get", "/v3", 404, "no such address"),
    "the wrong method": ("get", URL, 405, "method"),
    "a path out of the folder": ("get", "/v2/models/..%2f..%2fetc", 404, "no"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_sentences(shop: TestClient, name: str) -> None:
    method, path, status, said = MISTAKES[name]
    ready(shop)
    answered = getattr(shop, method)(path, **({"content": question_body(question())} if method == "post" else {}))
    assert answered.status_code == status and said in answered.json()["error"]
    assert "Traceback" not in answered.text


def test_a_body_that_is_no_question_costs_nobody_anything(shop: TestClient) -> None:
    ready(shop)
    assert shop.post(URL, content=b"\x00\x01").status_code == 400
    bad = ask(shop, Question({**question().tensors, "nonsense": Tensor("nonsense", "INT64", (1,), (1,))}))
    assert bad.status_code == 400 and "nonsense" in bad.json()["error"]
    no_output = ask(shop, question(outputs=("lowe",)))
    assert no_output.status_code == 400 and "did you mean 'love'" in no_output.json()["error"]
    assert ask(shop).status_code == 200


def test_too_long_a_question_is_not_read_to_its_end(registry: Registry, shelves: Shelves) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            sent.append(1)
            yield b" " * 1024

    with running(service(registry, shelves, limits={"body": "64KiB"})) as shop:
        ready(shop)
        assert shop.post(URL, content=b" " * (65 << 10)).status_code == 413
        assert shop.post(URL, content=endless()).status_code == 413


def test_a_question_may_ask_for_haste(shop: TestClient) -> None:
    ready(shop)
    hasty = ask(shop, question(timeout=1e-6))
    assert hasty.status_code == 503 and "time was over" in hasty.json()["error"]


def test_a_full_queue_says_no_at_once_and_those_inside_are_answered(registry: Registry, shelves: Shelves) -> None:
    with running(service(registry, shelves, limits={"in_flight": 1, "queue": 1})) as shop:
        ready(shop)
        shelves.gate = threading.Event()
        with ThreadPoolExecutor(2) as callers:
            inside = [callers.submit(ask, shop) for _ in range(2)]
            until(lambda: counts(shop)["rankmill_queue_depth"] == 2)
            refused = ask(shop)
            assert refused.status_code == 503 and refused.headers["retry-after"]
            assert not any(one.done() for one in inside)
            shelves.gate.set()
            assert [one.result(timeout=60).status_code for one in inside] == [200, 200]
        assert ask(shop).status_code == 200
        assert counts(shop)['rankmill_rejected_total{reason="busy"}'] >= 1


def test_only_who_has_the_token_gets_in(registry: Registry, shelves: Shelves) -> None:
    secret = "correct horse"
    with running(service(registry, shelves, token=secret)) as shop:
        assert shop.get("/v2/health/live").status_code == 200
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": secret}, {"Authorization": "Bearer "}):
            refused = ask(shop, headers=given)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        shop.headers["Authorization"] = f"Bearer {secret}"
        ready(shop)
        assert ask(shop).status_code == 200
        said = shop.get("/metrics").text + shop.get("/v2/models/shop").text
        assert secret not in said
    outside = service(registry, shelves, token=secret, listen={"host": "10.0.0.7", "token": "${env:T}"})
    with TestClient(make_app(outside), base_url="http://10.0.0.7") as shop:
        assert shop.get("/metrics").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_a_page_under_another_name_gets_nothing(shop: TestClient, host: str) -> None:
    assert shop.get("/v2", headers={"Host": host}).status_code == 400
    assert shop.get("/v2", headers={"Host": "localhost:8500"}).status_code == 200


def test_questions_are_counted_with_their_steps(shop: TestClient) -> None:
    ready(shop)
    before = counts(shop)
    ask(shop)
    shop.post(URL, content=b"{")
    after = counts(shop)
    assert after['rankmill_version_info{model="shop",role="champion",version="1"}'] == 1
    for name, more in {
        'rankmill_requests_total{code="200",role="champion"}': 1,
        'rankmill_requests_total{code="400",role="champion"}': 1,
        'rankmill_stage_seconds_count{stage="features"}': 1,
        "rankmill_candidates_sum": 3,
    }.items():
        assert after[name] - before.get(name, 0) == more, name


def test_answers_and_feedback_are_kept_where_a_log_is_wanted(
    registry: Registry, shelves: Shelves, tmp_path: Path
) -> None:
    questions, events = (Segments((tmp_path / name).as_uri()) for name in ("questions", "feedback"))
    kept = replace(service(registry, shelves), log=ServedLog(questions, seconds=60), feedback=FeedbackLog(events))
    with running(kept) as shop:
        ready(shop)
        answered = read_reply(ask(shop, question(id="q1")).content)
        unnamed = read_reply(ask(shop).content)
        told = {"events": [{"request_id": "q1", "item_id": 3, "feedback": "love"}]}
        taken = shop.post("/v2/models/shop/feedback", json=told)
        assert (taken.status_code, taken.json()) == (202, {"accepted": 1})
        wrong = shop.post(
            "/v2/models/shop/feedback", json={"events": [{"request_id": "q1", "item_id": 3, "feedback": "x"}]}
        )
        assert wrong.status_code == 400
    now = datetime.now(UTC)
    hours = (now - timedelta(hours=1), now + timedelta(hours=1))
    rows = pa.concat_tables(questions.read(*hours))
    mine = rows.filter(pc.equal(rows["served.request"], "q1"))
    np.testing.assert_array_equal(mine["answer.love"].to_numpy(), answered.outputs["love"])
    assert mine["item_id"].to_pylist() == [3, 1, 2] and mine["popularity"].to_pylist() == [3.0, 1.0, 2.0]
    assert unnamed.id and {*rows["served.request"].to_pylist()} == {"q1", unnamed.id}
    assert pa.concat_tables(events.read(*hours))["item"].to_pylist() == ["3"]


def test_without_a_log_no_feedback_is_taken(shop: TestClient) -> None:
    ready(shop)
    refused = shop.post("/v2/models/shop/feedback", json={"events": []})
    assert refused.status_code == 400 and "keeps no log" in refused.json()["error"]


def test_reasons_come_with_few_candidates_and_are_those_of_explain(shop: TestClient) -> None:
    from registry.serving.answers.reasons import effects_of, groups_of, top_reasons

    ready(shop)
    found = read_reply(ask(shop, question(reasons=2)).content).outputs
    live = shop.app.state.service.follower.live  # type: ignore[attr-defined]
    rows = rows_of(question(), live.reads, shop.app.state.service.lookup, None, 10).table  # type: ignore
    expected = top_reasons(effects_of(live.model, rows, "love", groups_of(live.model.contract.schema_)), 2)
    for name in expected.column_names:
        assert found[name].tolist() == expected[name].to_pylist(), name
    assert {*found["reason_1"].tolist()} - {""}
    refused = ask(shop, question(items=tuple(range(1, 22)), reasons=1))
    assert refused.status_code == 400 and "at most 20 candidates" in refused.json()["error"]
