"""Do register_model and promote_model keep their promises night after night?"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from components.data.training_set import read_raw
from components.pages.links import Links
from components.platform.artifacts import TrainingSet
from components.platform.errors import (
    BadInputError,
    GateRefusedError,
    ParityError,
)
from features.declaration import Window
from features.encoding.files import FILES
from pipelines.show.pages.model_page import model_page
from pipelines.show.pages.standing import standings
from registry.champion.ledger import Ledger
from registry.champion.promotion import Promotions, Request
from registry.evaluation import ALL, Evaluation
from registry.gate.verdict import Verdict
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import CHALLENGER, CHAMPION, Registry
from tests.integration.registry.mill import WINDOW, Mill

pytestmark = pytest.mark.engine


def test_a_week_of_nightly_runs(mill: Mill, registry: Registry, models: dict[str, Path]) -> None:
    """First champion, a retry, a refusal, a model that is as good, and the champion coming again."""
    first = mill.register("good", models["good"])
    assert registry.version("tiny_ranker", CHALLENGER).version == 1
    assert registry.alias("tiny_ranker", CHAMPION) is None
    done = mill.promote(first, "monday", {"floors": {"like": {"auc": 0.6}}})
    assert "champion v1 (was none)" in done.notes
    lost = mill.promote(first, "monday")
    assert lost.notes == ["champion v1 unchanged"]
    assert lost.no_news == (), "the try that moved the champion may have been interrupted before it was told"
    again = mill.promote(first, "monday, retried")
    assert again.notes == ["champion v1 unchanged"]
    assert again.no_news == ("promotion",), "nobody starts because the champion stayed"

    bad = mill.register("bad", models["bad"])
    with pytest.raises(
        GateRefusedError, match=r"tiny_ranker v2 refused: l.* auc 0\.\d+ against 0\.\d+.*limit.*v1 stays"
    ) as no:
        mill.promote(bad, "tuesday")
    assert no.value.exit_code == 3
    kept = mill.settings.runs / "nightly" / "tuesday" / "promote_model"
    assert str(kept / "verdict.html") in str(no.value)
    finished = mill.promote(bad, "tuesday, finished", on_refusal="finish")
    assert finished.notes[-1] == str(no.value).partition(", see ")[0] and finished.no_news == ("promotion",)
    folder = mill.store.fetch(finished.outputs["promotion"].load())
    assert Verdict.model_validate_json((folder / "verdict.json").read_text()).answer == "refused"
    refused = Verdict.model_validate_json((kept / "verdict.json").read_text())
    assert {j.domain for j in refused.judgements if j.metric == "auc"} == {ALL, "25_34", "35_plus", "under_25"}

    similar = mill.register("similar", models["similar"])
    lenient = {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2}
    done = mill.promote(similar, "wednesday", lenient)
    assert "champion v3 (was v1)" in done.notes and done.no_news == ()
    folder = mill.store.fetch(done.outputs["promotion"].load())
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    assert (verdict.answer, verdict.challenger, verdict.champion) == ("promoted", 3, 1)
    assert verdict.rows == read_raw(mill.training_set, "test").num_rows
    assert "tiny_ranker v3" in (folder / "verdict.html").read_text()

    assert mill.register("good", models["good"]) != first  # the stage is not cached: it moves an alias
    assert len(registry.versions("tiny_ranker")) == 3
    assert mill.actions() == [("promoted", 1), ("unchanged", 1), ("unchanged", 1), ("refused", 2), ("refused", 2),
                              ("promoted", 3)]  # fmt: skip
    entry = Ledger(mill.settings.ledger).entries("tiny_ranker")[-1]
    assert (entry.run_id, entry.actor, entry.previous) == ("wednesday", "pipeline:nightly", 1)
    assert entry.evidence is not None
    assert entry.evidence.judged > 6
    assert registry.versions("tiny_ranker")[1].tags["rankmill.verdict"] == "refused"


def test_pages_tell_how_versions_stand_and_mlflow_leads_to_them(
    mill: Mill, registry: Registry, models: dict[str, Path]
) -> None:
    mill.promote(mill.register("good", models["good"]), "monday")
    mill.settings = replace(mill.settings, page="https://airflow.example/plugin/rankmill/rankmill/")
    bad = mill.register("bad", models["bad"])
    with pytest.raises(GateRefusedError):
        mill.promote(bad, "tuesday")
    (found,) = standings(mill.settings, {"nightly"}.__contains__)
    assert (found.champion, [line.verdict for line in found.versions]) == (1, ["refused", "promoted"])
    assert [(line.what, line.version) for line in found.history] == [("refused", 2), ("promoted", 1)]
    assert found.since is not None and "auc" in found.versions[0].why
    page = model_page(found, Links("/rankmill"))
    assert "/rankmill/dags/nightly/runs/tuesday" in page and "refused" in page
    assert standings(mill.settings, lambda pipeline: False) == (), "its pipeline may not be read"
    assert (found.hold, found.waiting) == ("", ())
    Promotions(registry, Ledger(mill.settings.ledger)).hold("tiny_ranker", Request(actor="ada", reason="sale week"))
    (now,) = standings(mill.settings, {"nightly"}.__contains__)
    assert "held by ada" in now.hold and "sale week" in model_page(now, Links("/rankmill"))

    before, after = registry.versions("tiny_ranker")
    address = "https://airflow.example/plugin/rankmill/rankmill/dags/nightly/runs/bad"
    assert "rankmill.report" not in before.tags and after.tags["rankmill.report"] == address
    from mlflow import MlflowClient

    described = MlflowClient(registry.tracking_uri, registry.tracking_uri).get_model_version("tiny_ranker", "2")
    assert described.description.startswith(f"[Report of its run]({address})")


def test_a_former_champion_that_is_older_now_stays_one_that_was_promoted(
    mill: Mill, registry: Registry, models: dict[str, Path]
) -> None:
    lenient = {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2}
    first = mill.register("similar", models["similar"])
    mill.promote(first, "monday")
    mill.window = Window(start=WINDOW.start + timedelta(days=1), end=WINDOW.end + timedelta(days=1))
    mill.promote(mill.register("good", models["good"]), "tuesday", lenient)
    done = mill.promote(first, "backfill", lenient)
    assert done.notes[0].startswith("v1 is older than the champion's window")
    assert [listed.tags["rankmill.verdict"] for listed in registry.versions("tiny_ranker")] == ["promoted", "promoted"]


@pytest.mark.parametrize("allow", [False, True])
def test_a_backfill_of_a_past_day_leaves_the_champion(
    mill: Mill, registry: Registry, models: dict[str, Path], allow: bool
) -> None:
    lenient = {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2}
    mill.promote(mill.register("similar", models["similar"]), "nightly")
    mill.window = Window(start=WINDOW.start - timedelta(days=1), end=WINDOW.end - timedelta(days=1))
    past = mill.register("good", models["good"])
    done = mill.promote(past, "backfill", lenient, allow_older=allow)
    folder = mill.store.fetch(done.outputs["promotion"].load())
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    champion = registry.alias("tiny_ranker", CHAMPION)
    assert champion is not None
    if allow:  # the gate alone: the same models, and it promotes
        assert (champion.version, verdict.answer, mill.actions()[-1]) == (2, "promoted", ("promoted", 2))
        return
    assert (champion.version, verdict.answer, verdict.rows) == (1, "older", 0)
    assert done.no_news == ("promotion",)
    said = "older than the champion's window, which ends 2024-02-01 (this one 2024-01-31): not promoted"
    assert verdict.reason == said and done.notes == [f"v2 is {said}; champion v1 stays"]
    assert "older" in (folder / "verdict.html").read_text()
    assert mill.actions() == [("promoted", 1), ("refused", 2)]
    assert registry.versions("tiny_ranker")[1].tags["rankmill.verdict"] == "older"

    # The next night is newer than both, so the gate is asked again.
    mill.window = Window(start=WINDOW.start + timedelta(days=1), end=WINDOW.end + timedelta(days=1))
    with pytest.raises(GateRefusedError, match=r"tiny_ranker v3 refused: l.* auc"):
        mill.promote(mill.register("bad", models["bad"]), "next night")


def test_the_registered_version_holds_card_report_and_figures(
    mill: Mill, registry: Registry, models: Any, tmp_path: Path
) -> None:
    folder = mill.store.fetch(mill.register("good", models["good"]).load())
    version = RegisteredVersion.model_validate_json((folder / "version.json").read_text())
    assert version == registry.version("tiny_ranker", 1)
    assert version.digest == mill.ref("good").digest
    found = registry.download("tiny_ranker", 1, tmp_path / "copy")
    assert {"card.md", "report.json", "report.html", "model.onnx", *FILES} <= {path.name for path in found.iterdir()}
    assert (found / "card.md").read_text() == (folder / "card.md").read_text()
    tags = registry.versions("tiny_ranker")[0].tags
    assert tags["rankmill.dataset_digest"] == mill.dataset.digest
    evaluation = Evaluation.model_validate_json((found / "report.json").read_text())
    assert float(tags["rankmill.test.love.auc"]) == pytest.approx(
        evaluation.cell("love").metrics["auc"].value, abs=1e-4
    )


def test_a_floor_alone_can_refuse_the_first_model(mill: Mill, registry: Registry, models: dict[str, Path]) -> None:
    version = mill.register("good", models["good"])
    with pytest.raises(GateRefusedError, match=r"like in all rows: auc floor .* 0\.95; there is still no champion"):
        mill.promote(version, "monday", {"floors": {"like": {"auc": 0.95}}})
    assert registry.alias("tiny_ranker", CHAMPION) is None
    assert mill.actions() == [("refused", 1)]


def test_a_model_without_parity_is_not_registered(mill: Mill, models: dict[str, Path]) -> None:
    with pytest.raises(ParityError, match="parity of the model for tiny_ranker failed") as failure:
        mill.register("broken", models["broken"])
    assert failure.value.exit_code == 4
    assert Registry(mill.settings.tracking_uri).models() == ()


def test_a_report_about_another_model_is_noticed(mill: Mill, models: dict[str, Path]) -> None:
    mill.register("good", models["good"])
    mill.register("bad", models["bad"])
    with pytest.raises(BadInputError, match="is about model"):
        mill.run("register_model", {"model": "tiny_ranker"}, "x", model=mill.ref("good"), report=mill.ref("bad_report"))


def test_a_champion_that_needs_a_missing_feature_refuses_the_challenger(
    mill: Mill, models: Any, tmp_path: Path
) -> None:
    mill.promote(mill.register("good", models["good"]), "monday")
    import pyarrow.parquet as pq

    poorer = Path(shutil.copytree(mill.training_set, tmp_path / "poorer"))
    path = poorer / "raw" / "test.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["popularity"]), path)
    slim = Path(shutil.copytree(models["bad"], tmp_path / "slim"))
    _drop_input(slim, "popularity")
    challenger = mill.register("slim", slim)
    mill.dataset = mill.publish(TrainingSet, poorer, "poorer")
    with pytest.raises(
        GateRefusedError, match=r"champion tiny_ranker v1 cannot score the rows.*'popularity'.*v1 stays"
    ):
        mill.promote(challenger, "tuesday")
    assert mill.actions() == [("promoted", 1), ("refused", 2)]


def _drop_input(model: Path, name: str) -> None:
    """Remove an input that the tiny graph takes and never uses, everywhere it is declared."""
    import onnx

    graph = onnx.load(str(model / "model.onnx"))
    kept = [value for value in graph.graph.input if value.name != name]
    del graph.graph.input[:]
    graph.graph.input.extend(kept)
    onnx.save(graph, str(model / "model.onnx"))
    for file in ("contract.json", "schema.json", "encoder.json"):
        content = json.loads((model / file).read_text())
        holder = content.get("schema", content)
        key = "fitted" if file == "encoder.json" else "fields"
        holder[key] = [field for field in holder[key] if field["name"] != name]
        (model / file).write_text(json.dumps(content))


def test_a_version_that_a_person_took_back_is_not_promoted_until_it_is_lifted(
    mill: Mill, registry: Registry, models: dict[str, Path]
) -> None:
    lenient = {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2}
    first = mill.promote(mill.register("similar", models["similar"]), "monday")
    assert "no champion yet and no floors: unjudged" in first.notes
    mill.promote(mill.register("good", models["good"]), "tuesday", lenient)
    promotions = Promotions(registry, Ledger(mill.settings.ledger))
    promotions.rollback("tiny_ranker", Request(actor="ada", reason="incident"))
    done = mill.promote(mill.register("good", models["good"]), "wednesday", lenient)
    folder = mill.store.fetch(done.outputs["promotion"].load())
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    assert verdict.answer == "held"
    assert verdict.reason.startswith("rolled back on ") and " by ada: not promoted until " in verdict.reason
    assert "`rankmill promote tiny_ranker 2 --lift`" in verdict.reason
    assert mill.actions()[-1] == ("refused", 2)
    assert registry.version("tiny_ranker", CHAMPION).version == 1
    assert registry.versions("tiny_ranker")[1].tags["rankmill.verdict"] == "promoted"
    promotions.lift("tiny_ranker", 2, Request(actor="ada", reason="fixed"))
    mill.promote(mill.register("good", models["good"]), "thursday", lenient)
    assert registry.version("tiny_ranker", CHAMPION).version == 2


def test_a_champion_of_somebody_else_is_told_as_such(mill: Mill, registry: Registry, models: dict[str, Path]) -> None:
    from mlflow import MlflowClient

    version = mill.register("good", models["good"])
    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    client.create_model_version("tiny_ranker", "s3://elsewhere/model")
    client.set_registered_model_alias("tiny_ranker", CHAMPION, "2")
    with pytest.raises(GateRefusedError, match=r"champion v2 was not registered by Rankmill.*promote tiny_ranker 1"):
        mill.promote(version, "monday")
    assert "v2 was not registered by Rankmill" in Ledger(mill.settings.ledger).entries("tiny_ranker")[0].reason
