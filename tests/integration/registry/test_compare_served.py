"""Does a service's log of champion and challenger become a verdict, and does the gate ask for it?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from components.data.training_set import read_raw
from components.platform.errors import BadInputError, GateRefusedError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from pipelines.run.service.parts import service_of
from registry.gate.served_verdict import served_verdicts
from registry.gate.verdict import Verdict
from registry.serving.server.app import make_app
from registry.serving.wire.config import ServingConfig
from registry.versions.client import CHALLENGER, CHAMPION, Registry
from tests.asking import ask, question, until
from tests.integration.registry.mill import Mill

pytestmark = pytest.mark.engine
MODEL, AFTER = "tiny_ranker", 1
BY = {"shadow": {"share": 1.0}, "canary": {"share": 0.5, "stop": {"p99": "1m"}}}


def served_to(settings: Settings, rows: pa.Table, way: str) -> ArtifactRef:
    """Return the labelled rows of a service that answered every row and was told what people did."""
    config = ServingConfig.model_validate(
        {
            "name": way, "model": MODEL, "provider": "cpu", "features": {"store": "none"}, "follow": {"every": "1s"},
            "limits": {"timeout": "1m"}, "log": {"segment": "1s"}, way: BY[way],
        }
    )  # fmt: skip
    began, events = datetime.now(UTC), []
    service = service_of(config, settings, None)
    with TestClient(make_app(service), base_url="http://127.0.0.1:8500") as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        until(lambda: all(one.live is not None for one in service.challengers))
        for done, row in enumerate(rows.to_pylist(), start=1):
            now = datetime.now(UTC).isoformat()
            assert ask(client, MODEL, question(row, f"q{row['row_id']}")).parameters["degraded"] == []
            told = [name for name in ("like", "love") if row[name]]
            events += [
                {"request_id": f"q{row['row_id']}", "item_id": row["item_id"], "feedback": name, "at": now}
                for name in told
            ]
            if way == "shadow":  # it may lag behind people, not behind a loop
                scored = service.counters.shadow.labels("scored")._value
                until(lambda scored=scored, done=done: scored.get() == done)
        assert client.post(f"/v2/models/{MODEL}/feedback", json={"events": events}).status_code == 202
    closed = datetime.now(UTC) + timedelta(seconds=AFTER)
    until(lambda: datetime.now(UTC) > closed)
    request = StageRequest(
        component="ingest_served",
        config={"serving": way, "feedback": ["like", "love"], "after": f"{AFTER}s"},
        inputs={},
        window=Window(start=began, end=datetime.now(UTC)),
    )
    done_with = execute(request, settings)
    assert f"{rows.num_rows:,} of {rows.num_rows:,} answered rows labelled" in " ".join(done_with.notes)
    return done_with.outputs["rows"]


def compare(mill: Mill, rows: ArtifactRef, by: str, **gate: Any) -> tuple[StageResult, Verdict]:
    config = {"model": MODEL, "by": by, "gate": {"resamples": 100} | gate}
    done = mill.run("compare_served", config, "compare", rows=rows)
    folder = mill.store.fetch(done.outputs["comparison"].load())
    assert f"{MODEL} v2" in (folder / "verdict.html").read_text()
    return done, Verdict.model_validate_json((folder / "verdict.json").read_text())


@pytest.fixture
def rows(mill: Mill) -> pa.Table:
    return read_raw(mill.training_set, "test")


def test_a_shadow_that_answers_worse_is_refused(
    mill: Mill, registry: Registry, models: dict[str, Path], rows: pa.Table
) -> None:
    mill.promote(mill.register("good", models["good"]), "first")
    bad = mill.register("bad", models["bad"])
    assert registry.version(MODEL, CHALLENGER).version == 2
    done, verdict = compare(mill, served_to(mill.settings, rows, "shadow"), "shadow")
    assert (verdict.answer, verdict.challenger, verdict.champion, verdict.rows) == ("refused", 2, 1, rows.num_rows)
    assert verdict.served == "shadow" and "auc" in verdict.reason
    told = served_verdicts(registry.versions(MODEL)[1].tags)
    assert {*told} == {"shadow"} and told["shadow"].answer == "refused" and told["shadow"].champion == 1
    assert f"{rows.num_rows} rows compared" in " ".join(done.notes)
    with pytest.raises(GateRefusedError, match=r"the shadow comparison of .* refused it"):
        mill.promote(bad, "night", served={"rows": 100})
    assert registry.alias(MODEL, CHAMPION).version == 1  # type: ignore[union-attr]


def test_the_gate_asks_for_a_comparison_and_takes_one_that_passed(
    mill: Mill, registry: Registry, models: dict[str, Path], rows: pa.Table
) -> None:
    wanted, lenient = (
        {"rows": 100, "by": "shadow"},
        {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2},
    )
    first = mill.promote(mill.register("good", models["good"]), "first", served=wanted)
    assert "champion v1 (was none)" in first.notes, "a first champion has nothing to be compared with"
    similar = mill.register("similar", models["similar"])
    with pytest.raises(GateRefusedError, match="nothing shows yet that v2 serves as well as v1"):
        mill.promote(similar, "night", lenient, served=wanted)
    assert registry.version(MODEL, CHALLENGER).version == 2, "it stays the challenger, whom a service may ask"
    log = served_to(mill.settings, rows, "shadow")
    _, verdict = compare(mill, log, "shadow", **lenient)
    assert verdict.answer == "passed", verdict.reason
    with pytest.raises(GateRefusedError, match=f"is of {rows.num_rows} rows, 1,000,000 are asked for"):
        mill.promote(similar, "night", lenient, served={"rows": 1_000_000})
    assert "champion v2 (was v1)" in mill.promote(similar, "morning", lenient, served=wanted).notes


def test_a_canary_is_compared_arm_by_arm(
    mill: Mill, registry: Registry, models: dict[str, Path], rows: pa.Table
) -> None:
    mill.promote(mill.register("good", models["good"]), "first")
    mill.register("bad", models["bad"])
    _, verdict = compare(mill, served_to(mill.settings, rows, "canary"), "canary")
    assert verdict.served == "canary"
    assert rows.num_rows - 20 < verdict.rows <= rows.num_rows, "all but the first, before anybody got the canary"
    judged = {(one.task, one.metric, one.domain): one for one in verdict.judgements}
    assert {metric for _, metric, _ in judged} == {"rate", "auc"}
    order = judged["like", "auc", "all"]
    assert order.outcome == "refused" and order.champion is not None and order.challenger is not None
    assert order.champion > order.challenger + 0.05
    assert {*served_verdicts(registry.versions(MODEL)[1].tags)} == {"canary"}


def test_rows_of_no_log_are_a_sentence(mill: Mill) -> None:
    with pytest.raises(BadInputError, match="are of no service's log"):
        compare(mill, mill.dataset, "shadow")
