"""Do people have the last word: approvals, holds and protected aliases, with a real registry and ledger?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.platform.approval import Answer, ApprovalNeededError, People, Question
from components.platform.errors import BadInputError, GateRefusedError, MissingError
from components.platform.execute import StageResult
from pipelines.run.asking import user_name
from registry.champion.ledger import Entry, Ledger
from registry.champion.promotion import Promotions, Request
from registry.champion.protection import CHAMPION_VARIABLE, GROUPS_VARIABLE, NotAllowedError
from registry.gate.verdict import Verdict
from registry.versions.client import CHAMPION, Registry
from tests.integration.registry.mill import Mill

pytestmark = pytest.mark.engine
LENIENT = {"auc_margin": 0.05, "domain_auc_margin": 0.1, "log_loss_margin": 0.2}
ASKS = {"approval": {"within": "12h"}}
MODEL = "tiny_ranker"


def entries(mill: Mill) -> list[tuple[str, int, str]]:
    found = Ledger(mill.settings.ledger).entries(MODEL)
    return [(entry.action, entry.version, entry.actor) for entry in found if entry.action != "promoting"]


def last(mill: Mill) -> Entry:
    return Ledger(mill.settings.ledger).entries(MODEL)[-1]


def verdict_of(mill: Mill, done: StageResult) -> Verdict:
    folder = mill.store.fetch(done.outputs["promotion"].load())
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_text())
    page = (folder / "verdict.html").read_text()
    assert f">{verdict.answer}</b>" in page
    if verdict.consent is not None and verdict.consent.by:
        assert f" by {verdict.consent.by} (" in page
    return verdict


def in_airflow(answer: Answer | None = None) -> People:
    return People("airflow", lambda question: answer, answered=answer is not None)


def champion(registry: Registry) -> int | None:
    found = registry.alias(MODEL, CHAMPION)
    return found.version if found else None


PIPELINE = "pipeline:nightly"


def test_a_person_is_asked_between_the_verdict_and_the_alias(
    mill: Mill, registry: Registry, models: dict[str, Path], rankmill: Callable[..., str]
) -> None:
    """As Airflow runs it: the stage ends with a question, and is started again with the answer."""
    first = mill.register("similar", models["similar"])
    with pytest.raises(ApprovalNeededError) as asked:
        mill.promote(first, "monday", people=in_airflow(), **ASKS)
    question = asked.value.question
    assert question.verdict.answer == "waiting" and question.on_deadline == "refuse" and question.by == ()
    assert "a person is asked before it becomes champion" in Path(question.page).read_text()
    assert champion(registry) is None and registry.versions(MODEL)[0].tags["rankmill.verdict"] == "waiting"
    assert "tiny_ranker v1 waits until" in rankmill("models")
    with pytest.raises(BadInputError, match="is asked about in Airflow, run monday of pipeline:nightly: answer it"):
        rankmill("approve", MODEL, "1")

    answer = Answer(approved=True, by="ada", note="looked at the page")
    done = mill.promote(first, "monday", people=in_airflow(answer), **ASKS)
    assert champion(registry) == 1 and done.no_news == ()
    verdict = verdict_of(mill, done)
    assert verdict.decided_at == question.verdict.decided_at, "what was shown is not judged a second time"
    assert verdict.answer == "promoted" and verdict.consent is not None and verdict.consent.by == "ada"
    assert entries(mill) == [("asked", 1, PIPELINE), ("approved", 1, "ada"), ("promoted", 1, PIPELINE)]
    assert last(mill).reason.endswith("; approved by ada (looked at the page)")

    second = mill.register("good", models["good"])
    with pytest.raises(ApprovalNeededError):
        mill.promote(second, "tuesday", LENIENT, people=in_airflow(), **ASKS)
    shutil.rmtree(mill.settings.runs)  # another machine goes on, which has no file of this one
    nobody = Answer(approved=False, by="")
    with pytest.raises(
        GateRefusedError, match=r"v2 refused: declined since nobody answered in time; the gate: .*v1 st"
    ):
        mill.promote(second, "tuesday", LENIENT, people=in_airflow(nobody), **ASKS)
    finished = mill.promote(
        second, "wednesday", LENIENT, people=People(ask=lambda asked: Answer(approved=False, by="bob", note="not now")),
        on_refusal="finish", **ASKS,
    )  # fmt: skip
    assert verdict_of(mill, finished).reason.startswith("declined by bob (not now); the gate: ")
    assert finished.no_news == ("promotion",) and champion(registry) == 1
    assert [action for action, *_ in entries(mill)][3:] == ["asked", "declined", "refused"] * 2


def test_an_answer_about_another_champion_moves_nothing(
    mill: Mill, registry: Registry, models: dict[str, Path]
) -> None:
    mill.promote(mill.register("similar", models["similar"]), "monday")
    second = mill.register("good", models["good"])
    with pytest.raises(ApprovalNeededError):
        mill.promote(second, "tuesday", LENIENT, people=in_airflow(), **ASKS)
    mill.register("bad", models["bad"])
    promotions = Promotions(registry, Ledger(mill.settings.ledger))
    present = promotions.champion(MODEL)
    promotions.promote(MODEL, 3, Request(actor="eve", reason="by hand"), decided_on=present)
    yes = in_airflow(Answer(approved=True, by="ada"))
    with pytest.raises(
        GateRefusedError, match="asked about it against v1, and v3 is champion now: run the stage again"
    ):
        mill.promote(second, "tuesday", LENIENT, people=yes, **ASKS)
    assert champion(registry) == 3
    assert [action for action, *_ in entries(mill)] == ["promoted", "asked", "promoted", "approved", "refused"]
    # Against that one the gate judges anew, and asks anew.
    with pytest.raises(ApprovalNeededError) as again:
        mill.promote(second, "tuesday", LENIENT, people=in_airflow(), **ASKS)
    assert again.value.question.verdict.champion == 3


def test_a_run_without_a_terminal_is_answered_by_command_and_once(
    mill: Mill, registry: Registry, models: dict[str, Path], rankmill: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mill.promote(mill.register("similar", models["similar"]), "monday")
    second = mill.register("good", models["good"])
    with pytest.raises(MissingError, match="nobody is asked about tiny_ranker v2 now"):
        rankmill("approve", MODEL, "2")
    with pytest.raises(ApprovalNeededError, match=r"`rankmill approve tiny_ranker 2` promotes it") as asked:
        mill.promote(second, "tuesday", LENIENT, approval={"by": ["leads"]})
    assert asked.value.exit_code == 5
    with pytest.raises(NotAllowedError, match=rf"{user_name()} may not answer .*: ask leads"):
        rankmill("approve", MODEL, "2")
    monkeypatch.setenv(GROUPS_VARIABLE, json.dumps({"leads": [user_name(), "ada"]}))
    with pytest.raises(ApprovalNeededError) as asked:
        mill.promote(second, "wednesday", LENIENT, approval={"by": ["leads"]})
    assert asked.value.question.by == (user_name(), "ada")
    assert f"`rankmill approve {MODEL} 2`" in rankmill("history", MODEL)

    rankmill("hold", MODEL, "--because", "sale")
    with pytest.raises(BadInputError, match=r"tiny_ranker is held by .* first"):
        rankmill("approve", MODEL, "2")
    rankmill("lift", MODEL)
    assert "champion v2 (was v1), promoted" in rankmill("approve", MODEL, "2", "--note", "fine")
    assert champion(registry) == 2
    assert (last(mill).actor, last(mill).run_id) == (PIPELINE, "wednesday")
    assert last(mill).reason.endswith(f"; approved by {user_name()} (fine)")
    with pytest.raises(MissingError, match="nobody is asked"):
        rankmill("refuse", MODEL, "2")
    again = mill.promote(second, "thursday", LENIENT, approval={"by": ["leads"]})
    assert again.notes == ["champion v2 unchanged"], "what comes after the stage goes on, and nothing moves twice"


def test_an_approval_survives_a_crash_before_the_move(mill: Mill, registry: Registry, models: dict[str, Path]) -> None:
    version = mill.register("good", models["good"])
    with pytest.raises(ApprovalNeededError):
        mill.promote(version, "monday", people=in_airflow(), **ASKS)
    promotions = Promotions(registry, Ledger(mill.settings.ledger))
    promotions.answer(last(mill), approved=True, by="ada", reason="")
    asked: list[Question] = []
    people = People("airflow", asked.append)  # type: ignore[arg-type]  # answers nothing
    done = mill.promote(version, "monday", people=people, **ASKS)
    assert champion(registry) == 1 and asked == []
    assert verdict_of(mill, done).consent is not None
    assert last(mill).reason.endswith("approved by ada")


def test_no_pipeline_moves_the_champion_of_a_held_model(
    mill: Mill, registry: Registry, models: dict[str, Path], rankmill: Callable[..., str]
) -> None:
    version = mill.register("good", models["good"])
    with pytest.raises(BadInputError, match="which has passed: name a later time"):
        rankmill("hold", MODEL, "--until", "2020-01-01", "--because", "sale")
    said = rankmill("hold", MODEL, "--until", "2099-12-02", "--because", "black friday")
    assert f"held by {user_name()} since " in said and "until 2099-12-02 00:00 UTC (black friday)" in said
    done = mill.promote(version, "monday")
    verdict = verdict_of(mill, done)
    assert verdict.answer == "held" and verdict.rows > 0, "it is judged all the same"
    assert f"since tiny_ranker is held by {user_name()}" in verdict.reason and "; the gate: " in verdict.reason
    assert done.notes[-1].startswith("v1 was let through by the gate and not promoted") and champion(registry) is None
    assert done.no_news == ("promotion",) and [action for action, *_ in entries(mill)] == ["held", "refused"]
    for command in (("models",), ("history", MODEL)):
        assert "no pipeline moves its champion until `rankmill lift tiny_ranker`" in rankmill(*command)
    assert "champion v1 (was none)" in rankmill("promote", MODEL, "1", "-y"), "a person may"
    rankmill("lift", MODEL, "--because", "over")
    assert "lift tiny_ranker" not in rankmill("models")
    with pytest.raises(BadInputError, match="tiny_ranker is not held"):
        rankmill("lift", MODEL)
    mill.promote(mill.register("similar", models["similar"]), "tuesday", LENIENT)
    assert champion(registry) == 2


def test_a_protected_alias_is_moved_by_those_whom_the_profile_names(
    mill: Mill, registry: Registry, models: dict[str, Path], rankmill: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from mlflow import MlflowClient

    def protect(**movers: list[str]) -> None:
        monkeypatch.setenv(CHAMPION_VARIABLE, json.dumps(movers))

    version = mill.register("good", models["good"])
    protect(pipelines=["weekly"], people=["ada"])
    with pytest.raises(
        GateRefusedError, match=r"from pipeline nightly \(pipelines that may: weekly\); there is still no"
    ):
        mill.promote(version, "monday")
    assert entries(mill) == [("refused", 1, PIPELINE)] and champion(registry) is None
    for words in (("promote", MODEL, "1", "-y"), ("rollback", MODEL)):
        with pytest.raises(
            NotAllowedError, match=rf"protects the champion of tiny_ranker from {user_name()} \(people who"
        ):
            rankmill(*words)
    protect(pipelines=["nightly"])
    mill.promote(version, "tuesday")
    assert champion(registry) == 1
    with pytest.raises(NotAllowedError, match="people who may: nobody"):
        rankmill("promote", MODEL, "1", "-y")
    monkeypatch.setenv(GROUPS_VARIABLE, json.dumps({"leads": [user_name()]}))
    protect(people=["leads"])
    mill.register("similar", models["similar"])
    assert "champion v2 (was v1)" in rankmill("promote", MODEL, "2", "-y")

    # MLflow itself asks nobody, but it does not stay unseen.
    MlflowClient(registry.tracking_uri, registry.tracking_uri).set_registered_model_alias(MODEL, CHAMPION, "1")
    assert "the champion in MLflow is v1 now, the ledger's last is v2" in rankmill("models")
    Promotions(registry, Ledger(mill.settings.ledger)).champion(MODEL)
    assert "the champion is protected and was moved in MLflow itself, seen " in rankmill("models")
    monkeypatch.setenv(CHAMPION_VARIABLE, "{")
    with pytest.raises(BadInputError, match="cannot be read, so nobody may move the champion"):
        rankmill("promote", MODEL, "2", "-y")
