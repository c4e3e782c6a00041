"""How does a reader see what a data contract found? One page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.data.validate_data.config import ExpectationResult, SuiteResult
from components.data.validate_data.outcome import breakers, sentence
from components.data.validate_data.profile import ColumnProfile
from components.pages.document import render as page_of

_STATES = {"fail": "broken", "warn": "warned", "quarantine": "quarantined"}
_ORDER = {"fail": 0, "quarantine": 1, "warn": 2}


@dataclass(frozen=True)
class _Rule:
    """One expectation in the table: its state, and whether it broke the contract."""

    result: ExpectationResult
    state: str
    broke: bool


@dataclass(frozen=True)
class _View:
    result: SuiteResult
    description: str
    met: int
    reasons: tuple[str, ...]
    """A sentence for each rule that broke the contract."""
    rules: tuple[_Rule, ...]
    columns: tuple[ColumnProfile, ...]


def render(result: SuiteResult, description: str, columns: Sequence[ColumnProfile]) -> str:
    """Return the page as HTML: no script, no file and no address outside it."""
    broke = breakers(result)
    rules = [_Rule(one, _state(one), any(one is other for other in broke)) for one in result.expectations]
    view = _View(
        result=result,
        description=description,
        met=sum(one.passed for one in result.expectations),
        reasons=tuple(f"{sentence(one)} (line {one.line} of the suite)" for one in broke),
        rules=tuple(
            sorted(
                rules,
                key=lambda rule: (not rule.broke, rule.result.passed, _ORDER[rule.result.action], rule.result.line),
            )
        ),
        columns=tuple(columns),
    )
    return page_of(__file__, view)


def _state(one: ExpectationResult) -> str:
    return "met" if one.passed else "unchecked" if one.problem else _STATES[one.action]
