"""Does a person read what the gate saw and what no answer means, and is their answer read as they gave it?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from components.platform.approval import Answer, ApprovalNeededError, Question
from components.platform.errors import BadInputError
from pipelines.run import asking
from registry.champion.protection import NotAllowedError
from registry.evaluation import ALL, Interval
from registry.gate.verdict import Judgement
from tests.unit.pipelines.run.test_summary import VERDICT


def cell(domain: str = ALL, outcome: Any = "passed", task: str = "like") -> Judgement:
    difference = Interval(value=0.01, low=-0.002, high=0.022)
    return Judgement(
        task=task, domain=domain, metric="auc", champion=0.71, challenger=0.72, difference=difference, limit=0.002,
        outcome=outcome, reason="within the margin",
    )  # fmt: skip


def question(**more: Any) -> Question:
    judgements = (cell("young"), cell("few", "not judged"), cell())
    verdict = VERDICT.model_copy(update={"answer": "waiting", "judgements": judgements} | more.pop("verdict", {}))
    asked: dict[str, Any] = {
        "verdict": verdict, "page": "/runs/verdict.html", "within": timedelta(hours=12), "on_deadline": "refuse",
    }  # fmt: skip
    return Question(**asked | more)


def test_the_question_says_what_the_gate_saw() -> None:
    asked = question(link="https://mlflow.example.com/#/models/movielens_ranker/versions/12", by=("ada", "bob"))
    assert asking.subject(asked) == "May movielens_ranker v12 become champion instead of v11?"
    body = asking.body(asked)
    assert VERDICT.reason in body and "against champion v11" in body
    rows = [line for line in body.splitlines() if line.startswith("| like")]
    assert rows[0].split(" | ")[1:] == [
        "all", "auc", "0.7100", "0.7200", "+0.0100", "[-0.0020, +0.0220]", "0.002", "passed |"
    ]  # fmt: skip
    assert [row.split(" | ")[1] for row in rows] == ["all", "young"] and "1 more cells stand on the page" in body
    assert "Verdict page: `/runs/verdict.html`" in body
    assert "[movielens_ranker v12 in MLflow](https://mlflow.example.com/#/models/movielens_ranker/versions/12)" in body
    assert body.endswith("Without an answer within 12h it is refused. It is for ada, bob.")
    assert "it becomes champion" in asking.body(question(on_deadline="promote"))
    assert asking.body(asked) == asking.body(asked), "a second try asks the same, or Airflow would show an old text"
    first = question(verdict={"champion": None})
    assert asking.subject(first) == "May movielens_ranker v12 become champion, the first one?"


@pytest.mark.parametrize("hostile", ["<script>x</script>", "[click](https://evil.example)", "![x](//e)", "a|b|c"])
def test_texts_of_the_data_are_words(hostile: str) -> None:
    asked = question(verdict={"judgements": (cell(hostile),), "reason": hostile, "warnings": (hostile,)})
    body = asking.body(asked)
    assert hostile not in body
    assert all(line.count(" | ") == 8 for line in body.splitlines() if line.startswith("| like"))


def test_airflows_answer_is_read_and_anything_else_is_none() -> None:
    ada = {"id": "ada", "name": "ada"}
    yes = {"chosen_options": ["Promote"], "params_input": {"note": "fine"}, "responded_by_user": ada}
    assert asking.answer_of_event(yes) == Answer(approved=True, by="ada", note="fine")
    numbered = {**yes, "chosen_options": ["Refuse"], "responded_by_user": {"id": "3", "name": "Ada L"}}
    assert asking.answer_of_event(numbered) == Answer(approved=False, by="Ada L (3)", note="fine")
    late = {"chosen_options": ["Refuse"], "params_input": {"note": ""}, "responded_by_user": None, "timedout": True}
    assert asking.answer_of_event(late) == Answer(approved=False, by="")
    for wrong in ({"error": "gone", "error_type": "timeout"}, {"chosen_options": []},
                  {"chosen_options": ["Promote", "Refuse"]}, {"chosen_options": ["Yes"]}, {}):  # fmt: skip
        with pytest.raises(BadInputError, match="clear the stage to ask again"):
            asking.answer_of_event(wrong)


def test_the_command_line_says_who_and_why() -> None:
    assert asking.said_by(None, None) is None
    said = asking.said_by("ada: looked: twice", None)
    assert said == asking.Said(True, "ada", "looked: twice")
    assert said.answer(question(), "ada") == Answer(approved=True, by="ada", note="looked: twice")
    assert said.answer(question(), "root").by == "ada, as root wrote", "what is claimed is told as a claim"
    assert asking.said_by(None, "bob") == asking.Said(False, "bob")
    with pytest.raises(
        NotAllowedError, match="ada may not answer whether movielens_ranker v12 becomes champion: ask bob"
    ):
        said.answer(question(by=("bob",)), "ada")
    for wrong in (("", None), (":why", None), ("a b", None), ("ada", "bob")):
        with pytest.raises(BadInputError):
            asking.said_by(*wrong)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("promote checked the page\n", Answer(approved=True, by="ada", note="checked the page")),
        ("what?\nREF\n", Answer(approved=False, by="ada")),
        ("later\npromote\n", None),
        ("", None),
    ],
)
def test_the_terminal_asks_until_it_understands(typed: str, answer: Answer | None) -> None:
    told: list[str] = []
    lines: Iterator[str] = iter([*typed.splitlines(keepends=True), ""])
    assert asking.ask_here(question(), "ada", told.append, lambda: next(lines)) == answer
    assert told[0].startswith("May movielens_ranker v12") and any("0.7200 against 0.7100" in line for line in told)


def test_who_is_not_asked_is_told_so_at_the_terminal() -> None:
    told: list[str] = []
    assert asking.ask_here(question(by=("bob",)), "ada", told.append, lambda: "promote\n") is None
    assert told[-1].strip() == "ada may not answer: ask bob"


def test_a_question_without_an_answer_says_how_to_go_on() -> None:
    said = str(ApprovalNeededError(question()))
    assert "`rankmill approve movielens_ranker 12`" in said and "`rankmill refuse movielens_ranker 12`" in said
    assert "\n" not in said
