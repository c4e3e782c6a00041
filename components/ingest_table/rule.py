"""When is a row a positive? `rating >= 4 and status == 'paid'` as data: parsed, never evaluated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Operator = Literal["==", "!=", "<=", ">=", "<", ">"]
_OPERATORS: dict[str, Operator] = {op: op for op in get_args(Operator)}
_CONDITION = re.compile(
    r"""\s*(?:`(?P<quoted>[^`]+)`|(?P<column>[A-Za-z_][A-Za-z0-9_.]*))
        (?:\s*(?P<op>==|!=|<=|>=|<|>)\s*
           (?:(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|'(?P<single>[^']*)'|"(?P<double>[^"]*)"))?\s*""",
    re.VERBOSE,
)
_AND = re.compile(r"and\b")
EXAMPLES = "the name of a 0/1 column, or comparisons such as rating >= 4 and status == 'paid'"


@dataclass(frozen=True)
class Condition:
    """One comparison.

    Attributes:
        column: column of the file.
        op: comparison.
        value: number or text to compare with.
    """

    column: str
    op: Operator
    value: float | str


@dataclass(frozen=True)
class Rule:
    """A positive meets every condition; without conditions, `flag` names a column of 0 and 1.

    Attributes:
        flag: column of 0 and 1, or None.
        conditions: comparisons that must all hold.
    """

    flag: str | None
    conditions: tuple[Condition, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the file that the rule reads, each once."""
        return (self.flag,) if self.flag else tuple(dict.fromkeys(one.column for one in self.conditions))


def parse(text: str) -> Rule:
    """Return the rule that `text` writes.

    Raises:
        ValueError: it is none; the message says what it must be.
    """
    found: list[tuple[str, re.Match[str]]] = []
    at = 0
    while True:
        match = _CONDITION.match(text, at)
        if match is None:
            raise ValueError(f"must be {EXAMPLES}; {text[at:].strip() or 'the end'!r} is no comparison")
        found.append((match["quoted"] or match["column"], match))
        at = match.end()
        if at == len(text):
            break
        joined = _AND.match(text, at)
        if joined is None:
            raise ValueError(f"must be {EXAMPLES}; {text[at:]!r} cannot be read (texts stand in quotes)")
        at = joined.end()
    if len(found) == 1 and found[0][1]["op"] is None:
        return Rule(flag=found[0][0])
    return Rule(flag=None, conditions=tuple(_condition(column, match) for column, match in found))


def _condition(column: str, match: re.Match[str]) -> Condition:
    op = _OPERATORS.get(match["op"])
    if op is None:
        raise ValueError(f"must be {EXAMPLES}; compare {column!r} with something, such as {column} == 1")
    if match["number"] is not None:
        return Condition(column, op, float(match["number"]))
    text = match["single"] if match["single"] is not None else match["double"]
    if op not in ("==", "!="):
        raise ValueError(f"must be {EXAMPLES}; a text such as {text!r} is compared with == or !=")
    return Condition(column, op, text)
