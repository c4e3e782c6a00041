"""What did a gate or a check answer about what a stage was given, whether it let it through or not?

A stage that refuses publishes nothing; what it found lies in the run's folder, and the error says which answer it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from components.data.validate_data.config import ExpectationResult, SuiteResult
from components.platform.artifacts import DataDocs, OnnxModel, Promotion
from components.platform.errors import ContractViolationError, GateRefusedError, ParityError, RankmillError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from components.platform.store import open_store
from pipelines.run.task import Attempt
from registry.gate.verdict import Verdict
from registry.serving.contract import ParityReport

Severity = Literal["error", "warn"]


@dataclass(frozen=True)
class Check:
    """One rule about the table that a stage read.

    Attributes:
        expectation: its name.
        column: column or columns it is about; None for the whole table.
        passed: whether it holds.
        severity: `warn` stops nothing.
        found: what was found where it does not hold.
    """

    expectation: str
    column: str | None
    passed: bool
    severity: Severity
    found: str


@dataclass(frozen=True)
class Answer:
    """What a gate or a check said.

    Attributes:
        facts: `kind` (`gate`, `contract`, `parity`), `answer`, `reason` and figures, as JSON values.
        checks: of a contract: every rule.
    """

    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()


def answer_of(
    attempt: Attempt, result: StageResult | None, settings: Settings, error: BaseException | None = None
) -> Answer | None:
    """Return what a stage's gate or check said, or None for a stage that judges nothing.

    A file that cannot be read leaves the answer and the error's own sentence.

    Args:
        attempt: the try at the stage.
        result: what it returned, or None when it failed.
        settings: where run folders and artifacts lie.
        error: why it failed.
    """
    if result is not None:
        found = {ref.kind: ref for ref in result.outputs.values()}
        for judge in _JUDGES:
            if judge.artifact in found:
                return judge.read(partial(open_store(settings).open_file, found[judge.artifact])) or Answer(
                    {"kind": judge.kind, "answer": "passed"}
                )
        return None
    for judge in _JUDGES:
        if isinstance(error, judge.refusal):
            kept = run_folder(settings, attempt.plan.name, attempt.run_id) / attempt.stage.name
            known = judge.read(partial(_open_kept, kept)) or Answer({})
            said = {"kind": judge.kind, "answer": "refused", "reason": str(error)}
            return Answer(dict(known.facts) | said, known.checks)
    return None


def _open_kept(folder: Path, name: str) -> IO[bytes]:
    return (folder / name).open("rb")


@dataclass(frozen=True)
class _Judge:
    """Where a kind of answer stands, and how it is read."""

    kind: str
    refusal: type[Exception]
    artifact: str
    file: str
    told: Callable[[bytes], Answer]

    def read(self, open_file: Callable[[str], IO[bytes]]) -> Answer | None:
        try:
            with open_file(self.file) as stream:
                return self.told(stream.read())
        except (OSError, ValueError, RankmillError):
            return None


def _gate(text: bytes) -> Answer:
    verdict = Verdict.model_validate_json(text)
    facts = verdict.model_dump(mode="json", exclude={"judgements"})
    refused = [f"{one.task}/{one.domain}/{one.metric}" for one in verdict.judgements if one.outcome == "refused"]
    return Answer({"kind": "gate", **facts, "cells": len(verdict.judgements), "refused_cells": refused})


def _contract(text: bytes) -> Answer:
    result = SuiteResult.model_validate_json(text)
    facts = {
        "kind": "contract",
        "answer": "passed" if result.passed else "refused",
        "suite": result.suite,
        "rows": result.rows,
        "quarantined": result.rows - result.kept,
        "broken": [one.label for one in result.expectations if not one.passed],
    }
    return Answer(facts, tuple(map(_check, result.expectations)))


def _check(one: ExpectationResult) -> Check:
    found = one.problem or one.observed or (f"{one.broken} of {one.checked} rows" if one.broken else "")
    severity: Severity = "error" if one.action == "fail" else "warn"
    return Check(one.expectation, one.column, one.passed, severity, "" if one.passed else found)


def _parity(text: bytes) -> Answer:
    report = ParityReport.model_validate_json(text)
    worst = max((case.max_abs_difference for case in report.cases), default=0.0)
    answer = "passed" if report.passed else "refused"
    return Answer({"kind": "parity", "answer": answer, "tolerance": report.tolerance, "largest_difference": worst})


_JUDGES = (
    _Judge("gate", GateRefusedError, Promotion.kind, "verdict.json", _gate),
    _Judge("contract", ContractViolationError, DataDocs.kind, "result.json", _contract),
    _Judge("parity", ParityError, OnnxModel.kind, "parity.json", _parity),
)
