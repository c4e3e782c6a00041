"""Which rows does a rule mean? `rating >= 4 and status in ('paid', 'sent')` as data: parsed, never evaluated."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

from features.ground.yaml_text import stripped

Operator = Literal["==", "!=", "<=", ">=", "<", ">", "in", "not in", "is"]
"""`is` takes a column of 0 and 1 for what it says."""
Scalar = int | float | str
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
_NAME = "[A-Za-z_][A-Za-z0-9_.]*"
_VALUE = rf"""(?:{_NUMBER}|'[^']*'|"[^"]*")"""
_CONDITION = re.compile(
    rf"""\s*(?:(?P<not>not)\s+(?=(?:`[^`]+`|{_NAME})\s*(?:$|and\b|or\b)))?(?:`(?P<quoted>[^`]+)`|(?P<column>{_NAME}))
        (?:\s*(?P<op>==|!=|<=|>=|<|>)\s*(?:(?P<value>{_VALUE})|`(?P<other_quoted>[^`]+)`|(?P<other>{_NAME}))
         |\s+(?P<member>in|not\s+in)\s*\(\s*(?P<values>{_VALUE}(?:\s*,\s*{_VALUE})*)\s*,?\s*\))?\s*""",
    re.VERBOSE,
)
_JOINED = re.compile(r"(and|or)\b")
LARGEST = 1e30
"""Largest number that is compared."""
EXAMPLES = "the name of a 0/1 column, or comparisons such as rating >= 4 and status in ('paid', 'sent')"


@dataclass(frozen=True)
class Condition:
    """One comparison."""

    column: str
    op: Operator
    value: Scalar | tuple[Scalar, ...] = ()
    """Number or text to compare with, without white space at its ends, as the file's texts are; several of one kind for
    `in` and `not in`; none where it is another column."""
    other: str | None = None
    """Column to compare with."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the file that it reads."""
        return (self.column,) if self.other is None else (self.column, self.other)

    @property
    def values(self) -> tuple[Scalar, ...]:
        """What is compared with, as a tuple."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


@dataclass(frozen=True)
class Rule:
    """A positive meets every condition of one alternative; without any, `flag` names a column of 0 and 1."""

    flag: str | None
    """Column of 0 and 1, or None."""
    alternatives: tuple[tuple[Condition, ...], ...] = ()
    """What `or` joins: comparisons that must all hold."""

    @property
    def either(self) -> tuple[tuple[Condition, ...], ...]:
        """The alternatives, of which a flag is one too."""
        return self.alternatives if self.flag is None else ((Condition(self.flag, "is", 1),),)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the file that the rule reads, each once."""
        return tuple(dict.fromkeys(name for every in self.either for one in every for name in one.columns))


def parse(text: str) -> Rule:
    """Return the rule that `text` writes; `and` binds closer than `or`.

    Raises:
        ValueError: it is none; the message says what it must be.
    """
    alternatives: list[list[re.Match[str]]] = [[]]
    at = 0
    while True:
        match = _CONDITION.match(text, at)
        if match is None:
            raise ValueError(f"must be {EXAMPLES}; {text[at:].strip() or 'the end'!r} is no comparison")
        alternatives[-1].append(match)
        at = match.end()
        if at == len(text):
            break
        joined = _JOINED.match(text, at)
        if joined is None:
            raise ValueError(f"must be {EXAMPLES}; {text[at:]!r} cannot be read (texts stand in quotes)")
        if joined[1] == "or":
            alternatives.append([])
        at = joined.end()
    first = alternatives[0][0]
    if len(alternatives) == len(alternatives[0]) == 1 and first["op"] is first["member"] is first["not"] is None:
        return Rule(flag=first["quoted"] or first["column"])
    return Rule(None, tuple(tuple(map(_condition, every)) for every in alternatives))


def _condition(match: re.Match[str]) -> Condition:
    column = match["quoted"] or match["column"]
    if match["member"] is not None:
        values = tuple(_scalar(one) for one in re.findall(_VALUE, match["values"]))
        if len({isinstance(one, str) for one in values}) > 1:
            raise ValueError(f"must be {EXAMPLES}; ({match['values']}) holds numbers and texts: quote all or none")
        return Condition(column, "in" if match["member"] == "in" else "not in", values)
    if match["op"] is None:
        if column in ("and", "or", "not") and match["column"]:
            raise ValueError(f"must be {EXAMPLES}; {column!r} joins comparisons and is no column")
        return Condition(column, "is", 0 if match["not"] else 1)
    if match["value"] is None:
        other = match["other_quoted"] or match["other"]
        if other == column:
            raise ValueError(f"must be {EXAMPLES}; {column!r} is compared with itself")
        return Condition(column, cast("Operator", match["op"]), other=other)
    value = _scalar(match["value"])
    if isinstance(value, str) and match["op"] not in ("==", "!="):
        raise ValueError(f"must be {EXAMPLES}; a text such as {value!r} is compared with ==, != or in")
    return Condition(column, cast("Operator", match["op"]), value)


def _scalar(text: str) -> Scalar:
    """Return a quoted text, a whole number exactly as it is written, or another number."""
    if text[0] in "'\"":
        if not (bare := stripped(text[1:-1])):
            raise ValueError(f"must be {EXAMPLES}; {text} is an empty field, which no comparison takes for a value")
        return bare
    number = float(text)
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise ValueError(f"must be {EXAMPLES}; {text} is too large for a comparison")
    exact = Fraction(text)
    if exact.denominator == 1:
        return int(exact)
    if number == int(number):
        raise ValueError(f"must be {EXAMPLES}; {text} has more digits than a comparison holds")
    return number
