"""Which rows does a rule mean? Expressions over the columns of a table, checked against its types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from features.ground.errors import BadInputError, no_columns
from features.rules.compared import compared
from features.rules.compared_columns import pair
from features.rules.parse import Condition, Rule


@dataclass(frozen=True)
class Check:
    """Whether the fields of a column can be compared."""

    column: str
    wrong: pl.Expr
    """Whether one cannot; never null."""
    wanted: str
    why: tuple[tuple[pl.Expr, str], ...] = ()
    """For fields of a kind, a closer word on what they should be."""


@dataclass(frozen=True)
class Comparison:
    """A condition of a rule."""

    met: pl.Expr
    """Whether a row meets it, where its fields can be compared."""
    checks: tuple[Check, ...]
    """Of each column that it reads."""


def holds(rule: Rule, schema: Mapping[str, pl.DataType], shown: str) -> pl.Expr:
    """Return whether a row of a typed table meets a rule; a comparison with a missing value is not met.

    Args:
        rule: what `parse` returns.
        schema: types of the table's columns by name.
        shown: what an error calls the table, such as ``log 'buys'``.

    Raises:
        BadInputError: the table lacks a column of the rule, or one cannot be compared as the rule does.
    """
    if absent := [name for name in rule.columns if name not in schema]:
        raise BadInputError(f"{shown} has {no_columns(absent, schema)}: correct the rule")
    for one in (one for every in rule.either for one in every):
        # A file's texts may be numbers; a table's are texts.
        if one.other is None and not isinstance(one.values[0], str) and schema[one.column] == pl.String:
            raise _other_type(one.column, schema, shown, "0 or 1" if one.op == "is" else "a number")

    def sure(one: Comparison) -> pl.Expr:
        # Nothing is larger than a number that is none.
        return one.met & ~pl.any_horizontal(check.wrong for check in one.checks)

    told = comparisons(rule, pl.col, schema, shown)
    return all_of_one([[sure(one) for one in every] for every in told]).fill_null(False)


def comparisons(
    rule: Rule, column: Callable[[str], pl.Expr], schema: Mapping[str, pl.DataType], shown: str
) -> list[list[Comparison]]:
    """Return the conditions of each alternative of a rule.

    Args:
        rule: what `parse` returns.
        column: gives the expression of a column by its name.
        schema: types of the columns by name.
        shown: what an error calls the table.

    Raises:
        BadInputError: the type of a column cannot be compared as the rule does.
    """
    return [[_comparison(one, column, schema, shown) for one in every] for every in rule.either]


def all_of_one(alternatives: Sequence[Iterable[pl.Expr]]) -> pl.Expr:
    """Return whether a row meets every condition of one alternative at least."""
    return pl.any_horizontal(pl.all_horizontal(every) for every in alternatives)


def _comparison(
    condition: Condition, column: Callable[[str], pl.Expr], schema: Mapping[str, pl.DataType], shown: str
) -> Comparison:
    name, other = condition.column, condition.other
    if other is not None:
        return _of_two(condition, (name, other), column, schema, shown)
    found = compared(condition, column(name), schema[name])
    if found.met is None:
        raise _other_type(name, schema, shown, found.wanted)
    return Comparison(found.met, (Check(name, found.wrong, found.wanted, found.why),))


def _of_two(
    condition: Condition,
    names: tuple[str, str],
    column: Callable[[str], pl.Expr],
    schema: Mapping[str, pl.DataType],
    shown: str,
) -> Comparison:
    found = pair(condition.op, [column(name) for name in names], [schema[name] for name in names])
    if found is None:
        said = " and ".join(f"{name!r}, which is {_said(schema[name])}," for name in names)
        raise BadInputError(
            f"{shown}: columns {said} are not compared by {condition.op}: texts are with texts, numbers with numbers, "
            "times with times; correct the rule, or the file"
        )
    met, sides = found
    checks = (Check(name, one.wrong, one.wanted, one.why) for name, one in zip(names, sides, strict=True))
    return Comparison(met, tuple(checks))


def _other_type(name: str, schema: Mapping[str, pl.DataType], shown: str, wanted: str) -> BadInputError:
    return BadInputError(
        f"{shown}: column {name!r} is {_said(schema[name])}, which is not compared as {wanted}: change the type in the "
        "pipeline, or the file"
    )


def _said(dtype: pl.DataType) -> str:
    return str(dtype).lower()
