"""Does a lineage server hear what a gate or a check answered, above all where it refused?"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.data.validate_data.config import ExpectationResult, SuiteResult
from components.platform.artifacts import DataDocs, Promotion, Ranker
from components.platform.errors import (
    BadInputError,
    ContractViolationError,
    GateRefusedError,
    ParityError,
    RankmillError,
)
from components.platform.execute import run_folder
from components.platform.settings import Settings
from pipelines.language.plan import Plan
from pipelines.run.lineage import Answer, Check, DataSet, Lineage, answer_of, events
from pipelines.run.task import Attempt
from registry.gate.verdict import Judgement
from registry.serving.model.contract import ParityCase, ParityReport
from tests.unit.pipelines.run import test_task
from tests.unit.pipelines.run.test_summary import VERDICT, Records
from tests.unit.pipelines.run.test_task import MOMENT

plan = test_task.plan
REFUSED = VERDICT.model_copy(
    update={
        "answer": "refused",
        "reason": "like lost 0.02 AUC",
        "judgements": (
            Judgement(task="like", domain="all", metric="auc", champion=0.7, challenger=0.6, difference=None, limit=0.0,
                      outcome="refused", reason="lost"),
            Judgement(task="love", domain="all", metric="auc", champion=0.7, challenger=0.7, difference=None, limit=0.0,
                      outcome="passed", reason="held"),
        ),
    }
)  # fmt: skip
SUITE = SuiteResult(
    suite="shop",
    rows=10,
    kept=9,
    max_quarantined=0.5,
    passed=False,
    expectations=(
        ExpectationResult(expectation="between", column="price", arguments={}, action="fail", passed=False, checked=9,
                          broken=2),
        ExpectationResult(expectation="not_null", column="user", arguments={}, action="quarantine", passed=True,
                          checked=10, broken=1),
    ),
)  # fmt: skip
PARITY = ParityReport(
    passed=False,
    tolerance=1e-4,
    provider="cpu",
    cases=(ParityCase(batch=1, history=0, output="p", max_abs_difference=0.5),),
)
FILES = {"verdict.json": REFUSED, "result.json": SUITE, "parity.json": PARITY}


@pytest.fixture
def attempt(plan: Plan, tmp_path: Path) -> Attempt:
    """A try at a stage in whose folder every kind of answer lies, as if left by others."""
    made = Attempt(plan, plan.stage("numbers"), "r", {}, MOMENT, {})
    kept = run_folder(Settings.at(tmp_path), plan.name, "r") / "numbers"
    kept.mkdir(parents=True)
    for name, content in FILES.items():
        (kept / name).write_text(content.model_dump_json())
    return made


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (
            GateRefusedError("no"),
            {"kind": "gate", "challenger": 12, "champion": 11, "refused_cells": ["like/all/auc"], "cells": 2},
        ),
        (
            ContractViolationError("no"),
            {"kind": "contract", "suite": "shop", "rows": 10, "quarantined": 1, "broken": ["between(price)"]},
        ),
        (ParityError("no"), {"kind": "parity", "tolerance": 1e-4, "largest_difference": 0.5}),
    ],
)
def test_a_refusal_is_told_with_its_figures(
    attempt: Attempt, tmp_path: Path, error: RankmillError, facts: dict[str, object]
) -> None:
    answer = answer_of(attempt, None, Settings.at(tmp_path), error)
    assert answer is not None
    assert facts.items() <= answer.facts.items()
    assert (answer.facts["answer"], answer.facts["reason"]) == ("refused", "no")


@pytest.mark.parametrize("error", [BadInputError("no"), ValueError("no"), None])
def test_another_failure_is_no_answer_whatever_lies_about(
    attempt: Attempt, tmp_path: Path, error: Exception | None
) -> None:
    assert answer_of(attempt, None, Settings.at(tmp_path), error) is None


def test_what_cannot_be_read_leaves_the_sentence(attempt: Attempt, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    (run_folder(settings, attempt.plan.name, "r") / "numbers" / "verdict.json").write_text("cut sho")
    answer = answer_of(attempt, None, settings, GateRefusedError("v12 refused"))
    assert answer == Answer({"kind": "gate", "answer": "refused", "reason": "v12 refused"})


def test_what_passed_is_told_from_what_was_published(attempt: Attempt, tmp_path: Path) -> None:
    records = Records(tmp_path / "a home+")
    promoted = records.stage("promote", Promotion, {"verdict.json": VERDICT.model_dump_json()})
    answer = answer_of(attempt, promoted, records.settings)
    assert answer is not None and answer.facts["answer"] == "promoted" and answer.facts["reason"] == VERDICT.reason
    held = SUITE.model_copy(update={"passed": True})
    docs = answer_of(
        attempt, records.stage("contract", DataDocs, {"result.json": held.model_dump_json()}), records.settings
    )
    assert docs is not None and docs.facts["answer"] == "passed"
    assert docs.checks == (
        Check("between", "price", False, "error", "2 of 9 rows"),
        Check("not_null", "user", True, "warn", ""),
    )
    trained = records.stage("train", Ranker, {"history.json": "[]"})
    assert answer_of(attempt, trained, records.settings) is None


def test_events_carry_the_answer_and_the_checks_of_the_table_that_was_read() -> None:
    checks = (Check("between", "price", False, "error", "2 of 9 rows"),)
    inputs = (DataSet("shop.ingest.events", "events_table", "v"), DataSet("shop.contract.raw.x", "raw_file", "v"))
    told = events(Lineage(inputs, (), {}, Answer({"kind": "contract", "answer": "refused"}, checks)))
    assert told["run_facets"]["rankmill_verdict"].answer == "refused"
    read, raw = told["inputs"]
    (one,) = read.inputFacets["dataQualityAssertions"].assertions
    assert (one.assertion, one.column, one.success, one.severity, one.actual) == (
        "between", "price", False, "error", "2 of 9 rows",
    )  # fmt: skip
    assert raw.inputFacets == {}
    silent = events(Lineage(inputs, (), {}))
    assert set(silent["run_facets"]) == {"rankmill_stage"} and silent["inputs"][0].inputFacets == {}
