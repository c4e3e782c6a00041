"""Which rows and figures break a suite's rules? What Great Expectations says of them.

Names and arguments of expectations change between its versions: nothing but this and `gx_columns` may import it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from components.data.validate_data.gx_columns import compare_whole_columns, no_fingerprint, only_what_is_read
from components.platform.errors import BadInputError, did_you_mean
from features.suites import Expectation, Suite, Where

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from features.joins.stored_rows import StoredRows

_OURS = {"expect", "action", "why", "where", "columns"}
_ENGINE = {
    "id", "meta", "notes", "result_format", "description", "catch_exceptions", "rendered_content", "severity",
    "windows", "batch_id", "row_condition", "condition_parser",
}  # fmt: skip
"""Fields of every expectation class that a suite does not set."""
_NEIGHBOURS = {
    "expect_column_values_to_be_increasing", "expect_column_values_to_be_decreasing",
    "expect_column_value_z_scores_to_be_less_than", "expect_column_values_to_not_be_outliers",
    "expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list",
}  # fmt: skip
"""Row expectations whose answer for one row changes when others are taken away, or that answer for the type."""
_VALUES = ("min_value", "max_value", "value_set")
"""Arguments that are compared with a column's values."""
_SHOWN = 5
"""Missing or unexpected values of a set that are told."""
_OPERATORS = {"in": "IN", "not in": "NOT_IN"}


@dataclass(frozen=True)
class Finding:
    """What the engine says about one rule."""

    rule: Expectation
    passed: bool
    checked: int
    """Rows looked at."""
    rows: tuple[int, ...] = ()
    """Numbers of the rows that break it, ascending; empty for a figure of a column or table."""
    observed: str = ""
    """The figure found, as text; empty for a rule about rows."""
    problem: str = ""
    """Why it could not be checked, or empty."""


def check(
    table: pa.Table | StoredRows,
    numbers: np.ndarray[Any, Any],
    suite: Suite,
    rules: Sequence[Expectation],
    moments: Mapping[str, datetime],
) -> list[Finding]:
    """Check rules on a table.

    `numbers`, int64 ``[rows]``, are those of `Finding.rows`; `moments` are values of ``{from: ...}`` arguments.

    Returns:
        One finding per rule, in the same order.

    Raises:
        BadInputError: a rule names no expectation, or arguments that its expectation does not take.
    """
    if not rules:
        return []
    # Quiet before the import: it logs hundreds of lines per run at INFO. One module sets its own level.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    built = [_build(suite, rule, position, moments, table.schema) for position, rule in enumerate(rules)]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    # Arrow-backed columns keep nulls, 64-bit ids and exact types, which numpy-backed ones turn into floats.
    frame = only_what_is_read(table, rules).to_pandas(types_mapper=pd.ArrowDtype)
    together = len(numbers) > 0 and numbers[-1] - numbers[0] == len(numbers) - 1
    frame.index = pd.RangeIndex(numbers[0], numbers[-1] + 1) if together else pd.Index(numbers)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset(suite.name)
    compare_whole_columns()
    with no_fingerprint():
        batch = asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": frame})
        outcome = batch.validate(
            gx.ExpectationSuite(name=suite.name, expectations=built), result_format={"result_format": "COMPLETE"}
        )
    by_position = {result.expectation_config.meta["position"]: result for result in outcome.results}
    return [_finding(rule, by_position[position], table.num_rows) for position, rule in enumerate(rules)]


def _build(suite: Suite, rule: Expectation, position: int, moments: Mapping[str, datetime], schema: pa.Schema) -> Any:
    """Return the engine's expectation for a rule."""
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.expectations import registry
    from great_expectations.expectations.expectation import ColumnPairMapExpectation

    known = registry.list_registered_expectation_implementations()
    where = f"{suite.path}:{rule.line}: {rule.expect}"
    if rule.expect not in known:
        raise BadInputError(
            f"{suite.path}:{rule.line}: no expectation {rule.expect!r}{did_you_mean(rule.expect, known)}"
        )
    kind = registry.get_expectation_impl(rule.expect)
    if rule.action == "quarantine" and not _answers_per_row(rule.expect, kind):
        raise BadInputError(f"{where} does not say which rows to quarantine; use action: fail or warn")
    names = set(kind.__fields__) - _ENGINE
    for name in rule.arguments:
        if name not in names:
            raise BadInputError(f"{where}: no argument {name!r}{did_you_mean(name, names | _OURS)}; correct the suite")
    try:
        times = {one.name: one.type for one in schema if str(one.type).startswith("timestamp")}
        arguments = rule.resolved(moments)
        if (column := rule.arguments.get("column")) in times:
            values = {name: as_times(arguments[name], times[column]) for name in _VALUES if name in arguments}
            arguments |= values
        if rule.expect == "expect_column_type_to_be":
            arguments["type_"] = f"{arguments['type_']}[pyarrow]"
        if issubclass(kind, ColumnPairMapExpectation):
            # Comparing with a null raises; whether a null may be there is another expectation's question.
            arguments.setdefault("ignore_row_if", "either_value_is_missing")
        if rule.where:
            arguments["row_condition"] = _condition(
                [
                    (one, as_times(one.value, times[one.column]) if one.column in times else one.value)
                    for one in rule.where
                ]
            )
        return kind(meta={"position": position}, **arguments)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{where}: {name}: {first['msg']}; correct the suite") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{where}: {error}; correct the suite") from None


def _answers_per_row(name: str, kind: type[Any]) -> bool:
    from great_expectations.expectations import expectation as base

    maps = (base.ColumnMapExpectation, base.ColumnPairMapExpectation, base.MulticolumnMapExpectation)
    return issubclass(kind, maps) and name not in _NEIGHBOURS


def as_times(value: Any, dtype: pa.DataType) -> Any:
    """Return texts such as 2026-01-01 as what a column of timestamps is compared with; other values as they are.

    Args:
        value: an argument of a rule, or a list of such.
        dtype: the column's timestamp type; a time without an offset is in UTC, or like a column without a zone.

    Raises:
        ValueError: a text is no time.
    """
    if isinstance(value, list):
        return [as_times(one, dtype) for one in value]
    if isinstance(value, date) and not isinstance(value, datetime):
        value = value.isoformat()
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is no time such as 2026-01-01 or 2026-01-01T23:59:00+00:00") from None
    if dtype.tz is None:
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _condition(where: Sequence[tuple[Where, Any]]) -> Any:
    """Return typed conditions: a condition in text would be evaluated as code."""
    from great_expectations.expectations.row_conditions import (
        AndCondition,
        Column,
        ComparisonCondition,
        NullityCondition,
        Operator,
    )

    parts = [
        NullityCondition(column=Column(one.column), is_null=one.op == "is null")
        if one.value is None
        else ComparisonCondition(
            column=Column(one.column), operator=Operator(_OPERATORS.get(one.op, one.op)), parameter=value
        )
        for one, value in where
    ]
    return parts[0] if len(parts) == 1 else AndCondition(conditions=parts)


def _finding(rule: Expectation, result: Any, rows: int) -> Finding:
    problem = _problem(result.exception_info)
    if problem:
        return Finding(rule, passed=False, checked=0, problem=problem)
    detail = result.result
    if "unexpected_index_list" in detail:
        broken = tuple(sorted(int(number) for number in detail["unexpected_index_list"] or ()))
        return Finding(rule, bool(result.success), int(detail["element_count"]), broken)
    return Finding(rule, bool(result.success), rows, observed=_observed(detail, bool(result.success)))


def _observed(detail: Mapping[str, Any], passed: bool) -> str:
    """Return a figure as a reader wants it; for a set of values or columns only what differs."""
    differs = (detail.get("details") or {}).get("mismatched")
    if not isinstance(differs, dict):
        differs = {state: detail.get(f"partial_{state}_list") for state in ("missing", "unexpected")}
    told = [f"{state} {', '.join(map(str, values[:_SHOWN]))}" for state, values in sorted(differs.items()) if values]
    value = detail.get("observed_value")
    if told and not passed:
        return "; ".join(told)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and passed:
        return ""
    if value is None:
        return "" if passed else "no value"
    return str(value).removesuffix("[pyarrow]")


def _problem(info: Any) -> str:
    """Return the engine's reason for not answering; it comes flat, or by metric."""
    if not info:
        return ""
    flat = [info] if "raised_exception" in info else [one for one in info.values() if isinstance(one, dict)]
    told = [str(one.get("exception_message")) for one in flat if one.get("raised_exception")]
    return told[0].removeprefix("Error: ").strip().rstrip(".") if told else ""
