"""What follows from the findings? Which rows are kept, whether the contract holds, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.validate_data.config import ExpectationResult, SuiteResult
from components.data.validate_data.gx_adapter import Finding
from features.joins.stored_rows import StoredRows
from features.suites import Expectation, Suite

EXAMPLES = 5
"""Offending values that an error and the page show."""
REQUEST = "request_id"
"""Column of an events table that is equal for rows that were shown together."""
SHOWN_WITH = f"shown in one request ({REQUEST}) with a broken row"
"""Why a row that breaks no rule itself is set aside."""
_COLUMNS = ("column", "column_A", "column_B", "column_list")


def broken_rows(table: pa.Table | StoredRows, findings: Sequence[Finding]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rows break which quarantine rule, and which break none but were shown with a row that does.

    Returns:
        bool ``[rows, findings + 1]``; the last column is of the latter.
    """
    broken = np.zeros((table.num_rows, len(findings) + 1), dtype=bool)
    for position, finding in enumerate(findings):
        broken[np.asarray(finding.rows, dtype=np.int64), position] = True
    broken[:, -1] = _shown_with(table, np.asarray(broken.any(axis=1)))
    return broken


def _shown_with(
    table: pa.Table | StoredRows, hit: np.ndarray[Any, np.dtype[np.bool_]]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the other rows of the requests that hold a `hit` one; none where the rows tell no request.

    Without them a ranker would see another list than was shown, with holes in its places.
    """
    if REQUEST not in table.column_names or not hit.any():
        return np.zeros(table.num_rows, dtype=bool)
    requests = table.column(REQUEST)
    hurt = pc.unique(requests.filter(pa.array(hit)).drop_null())
    return np.asarray(pc.is_in(requests, value_set=hurt)) & ~hit


def set_aside(
    table: pa.Table | StoredRows, broken: np.ndarray[Any, np.dtype[np.bool_]], findings: Sequence[Finding]
) -> tuple[pa.Table | StoredRows, pa.Table]:
    """Divide a table into the rows that are kept and those that break a quarantine rule, with their whole requests.

    Returns:
        Kept rows, and the others with a column `broken`: list of the labels of the rules they break, or `SHOWN_WITH`
        alone.
    """
    aside = broken.any(axis=1)
    hits = broken[aside]
    offsets = np.concatenate([[0], hits.sum(axis=1).cumsum()]).astype(np.int32)
    labels = pa.array([*(_label(finding.rule) for finding in findings), SHOWN_WITH], pa.string())
    values = labels.take(pa.array(np.nonzero(hits)[1]))
    lists = pa.ListArray.from_arrays(pa.array(offsets), values)
    if not aside.any():  # as nearly always: no row has to be copied
        return table, _some(table, np.zeros(0, dtype=np.int64)).append_column("broken", lists)
    kept = table.filter(pa.array(~aside)) if isinstance(table, pa.Table) else table.take(np.flatnonzero(~aside))
    return kept, _some(table, np.flatnonzero(aside)).append_column("broken", lists)


def _some(table: pa.Table | StoredRows, rows: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Table:
    """Return some rows, read."""
    if isinstance(table, pa.Table):
        return table.take(pa.array(rows))
    return table.take(rows).select(table.column_names)


def conclude(suite: Suite, table: pa.Table | StoredRows, kept: int, findings: Sequence[Finding]) -> SuiteResult:
    """Return the result of a suite."""
    results = tuple(_result(finding, table) for finding in findings)
    held = not any(map(_breaks, results))
    few = table.num_rows - kept <= suite.contract.max_quarantined * table.num_rows
    return SuiteResult(
        suite=suite.name,
        rows=table.num_rows,
        kept=kept,
        max_quarantined=suite.contract.max_quarantined,
        passed=held and few,
        expectations=results,
    )


def violation(result: SuiteResult, suite: Suite, page: Path) -> str:
    """Return the sentence for a broken contract: expectation, column, offending values, where to look."""
    first, *others = breakers(result)
    what = sentence(first)
    if _breaks(first):
        more = f" ({len(others)} more expectations fail)" if others else ""
    else:
        aside = result.rows - result.kept
        share = f"{aside:,} of {result.rows:,} rows ({aside / result.rows:.1%})"
        what = f"{share} would be quarantined, at most {result.max_quarantined:.1%} may be; mostly {what}"
        more = ""
    return (
        f"the contract {suite.name!r} is broken: {what}{more}; see {page}, "
        f"then correct the source, or the rule at {suite.path}:{first.line}"
    )


def breakers(result: SuiteResult) -> tuple[ExpectationResult, ...]:
    """Return the rules that broke the contract, else the one that quarantined too many rows; none where it holds."""
    broken = tuple(one for one in result.expectations if _breaks(one))
    if broken or result.passed:
        return broken
    parting = (one for one in result.expectations if one.action == "quarantine")
    return (max(parting, key=lambda one: (one.broken, -one.line)),)


def _breaks(result: ExpectationResult) -> bool:
    """Return whether a rule breaks the contract: a failed `fail`, or a quarantine that could not be checked."""
    return not result.passed and (result.action == "fail" or (result.action == "quarantine" and bool(result.problem)))


def sentence(result: ExpectationResult) -> str:
    """Return what a rule asks, on which column, and what it found instead."""
    about = f"{result.expectation} on {result.column!r}" if result.column else result.expectation
    asked = ", ".join(f"{name} {value}" for name, value in result.arguments.items())
    about += f" ({asked})" if asked and len(asked) <= 120 else ""
    if result.problem:
        return f"{about} cannot be checked: {result.problem}"
    if result.examples:
        return f"{about} fails for {result.broken:,} of {result.checked:,} rows: {'; '.join(result.examples)}"
    return f"{about} fails: observed {result.observed}"


def warning(result: ExpectationResult) -> str:
    """Return the line for a rule that is only shown."""
    return f"warning: {sentence(result)}"


def _result(finding: Finding, table: pa.Table | StoredRows) -> ExpectationResult:
    rule = finding.rule
    columns = _columns(rule)
    arguments = {name: _argument(value) for name, value in rule.arguments.items() if name not in _COLUMNS}
    if rule.where:
        arguments["where"] = " and ".join(map(str, rule.where))
    return ExpectationResult(
        expectation=rule.expect,
        column=", ".join(columns) or None,
        arguments=arguments,
        action=rule.action,
        # `mostly` may let a rule with broken rows pass; a quarantine rule's rows are gone, so it is met or not.
        passed=finding.passed,
        checked=finding.checked,
        broken=len(finding.rows),
        examples=_examples(table, columns, finding.rows),
        observed=finding.observed,
        problem=finding.problem,
        why=rule.why,
        line=rule.line,
    )


def _columns(rule: Expectation) -> list[str]:
    given = [rule.arguments[name] for name in _COLUMNS if name in rule.arguments]
    return [str(name) for value in given for name in (value if isinstance(value, list) else [value])]


def _label(rule: Expectation) -> str:
    columns = ", ".join(_columns(rule))
    return f"{rule.expect}({columns})" if columns else rule.expect


def _examples(table: pa.Table | StoredRows, columns: list[str], rows: tuple[int, ...]) -> tuple[str, ...]:
    first = rows[:EXAMPLES]
    known = [name for name in columns if name in table.column_names]
    if not first:
        return ()
    taken = _some(table, np.array(first, dtype=np.int64)).select(known).to_pylist()
    return tuple(f"row {number}: {_values(row)}" for number, row in zip(first, taken, strict=True))


def _values(row: dict[str, Any]) -> str:
    if len(row) == 1:
        return _value(next(iter(row.values())))
    return ", ".join(f"{name} {_value(value)}" for name, value in row.items())


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value)


def _argument(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"from"}:
        return str(value["from"])
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
