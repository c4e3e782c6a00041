"""What does a suite of expectations say? A YAML file as typed values, without any engine.

Shipped suites lie in `features/expectations/`; one of your own lies below the folder of the pipeline that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.declaration import Frozen
from features.ground.errors import BadInputError, MissingError, did_you_mean
from features.ground.yaml_text import Words, YamlText, parse, stripped

FOLDER = Path(__file__).resolve().parent / "expectations"
"""Where suites live: one file each, named like the suite."""
SUFFIX = ".yaml"
"""End of a suite's file; a suite that is named so is a path."""

REFERENCES = ("window.start", "window.end", "now")
"""Moments an argument may point at with ``{from: window.start}``; known only when the stage runs."""

COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
"""Arguments that name columns of the table."""

COMPARED = ("value_set", "value_pairs_set", "min_value", "max_value")
"""Arguments that a column's values are compared with."""

Action = Literal["fail", "warn", "quarantine"]

_LINE = "line of the rule"
"""Key under which the loader hands a rule its line."""
_WORDS = Words("suite", twice="key {key} stands twice")


class Where(Frozen):
    """Rows that an expectation looks at."""

    column: str
    """Column to compare."""
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null"] = "=="
    """Comparison; `is null` and `is not null` take no value."""
    value: bool | int | float | str | list[int] | list[float] | list[str] | None = None
    """What to compare with; a list for `in` and `not in`."""

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        if self.op.startswith("is ") != (self.value is None):
            raise ValueError(f"'{self.op}' takes {'no' if self.op.startswith('is ') else 'a'} value")
        if self.op.endswith("in") != isinstance(self.value, list):
            raise ValueError(f"'{self.op}' takes {'a list' if self.op.endswith('in') else 'one value, not a list'}")
        return self

    def __str__(self) -> str:
        """Return the condition as a reader would write it."""
        return f"{self.column} {self.op}" + ("" if self.value is None else f" {self.value}")


class Expectation(BaseModel):
    """One rule: an expectation by its snake name, and what happens to a table that breaks it.

    Keys that are not named here are arguments of the expectation; the engine's adapter checks them.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    expect: str = Field(pattern=r"^[a-z][a-z_0-9]*$")
    """Such as ``expect_column_values_to_be_between``."""
    action: Action = "fail"
    """`fail` stops the run, `warn` is shown, `quarantine` sends the broken rows aside."""
    why: str = ""
    """Sentence for the reader of the data docs."""
    where: tuple[Where, ...] = ()
    """Rows that are looked at; every row when absent. Several conditions must all hold."""
    line: int = Field(0, alias=_LINE)
    """Line of the rule in its file; set by the loader."""

    @model_validator(mode="before")
    @classmethod
    def _one_condition_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("where"), dict):
            return {**value, "where": [value["where"]]}
        return value

    @model_validator(mode="after")
    def _quarantine_is_exact(self) -> Self:
        if self.action == "quarantine" and "mostly" in self.arguments:
            raise ValueError("quarantine takes every broken row, so leave `mostly` out; `max_quarantined` is the limit")
        return self

    @model_validator(mode="after")
    def _texts_can_be_met(self) -> Self:
        given = {name: self.arguments[name] for name in COMPARED if name in self.arguments}
        given |= {f"where, {one.column}": one.value for one in self.where}
        for name, value in given.items():
            for text in _texts(value):
                if text != stripped(text):
                    raise ValueError(
                        f"{name} holds {text!r}, but texts are read without white space at their ends: write "
                        f"{stripped(text)!r}"
                    )
        return self

    @property
    def columns(self) -> list[str]:
        """Columns that must be in the table for the rule to be checked, in the order in which they are written."""
        given = [self.arguments[name] for name in COLUMN_ARGUMENTS if name in self.arguments]
        named = [name for value in given for name in (value if isinstance(value, list) else [value])]
        return [str(name) for name in named if isinstance(name, str)] + [one.column for one in self.where]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the expectation as written."""
        return dict(self.model_extra or {})

    def resolved(self, references: Mapping[str, datetime]) -> dict[str, Any]:
        """Return the arguments with every ``{from: NAME}`` replaced by the moment it names.

        Raises:
            ValueError: a name is none of `REFERENCES`.
        """
        return {name: _resolve(value, references) for name, value in self.arguments.items()}


def _resolve(value: Any, references: Mapping[str, datetime]) -> Any:
    if isinstance(value, dict) and set(value) == {"from"}:
        if value["from"] not in references:
            raise ValueError(f"no reference {value['from']!r}{did_you_mean(str(value['from']), REFERENCES)}")
        return references[value["from"]]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


class Contract(Frozen):
    """What a suite's file says: rules in the order they are reported."""

    description: str = ""
    """What the contract protects."""
    max_quarantined: float = Field(0.05, ge=0, le=1)
    """Largest share of rows that may be sent aside; more breaks the contract."""
    expectations: tuple[Expectation, ...] = Field(min_length=1)
    """The rules; one with `columns` stands for one rule per column."""


@dataclass(frozen=True)
class Suite:
    """A contract with its name and file."""

    name: str
    path: Path
    contract: Contract


def names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Return the names of all suites, sorted."""
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def load(name: str, folder: Path = FOLDER) -> Suite:
    """Return the suite called `name`.

    Raises:
        MissingError: there is none; the message holds the nearest valid name.
        BadInputError: the file is not YAML or says something a suite cannot say.
    """
    path = folder / f"{name}.yaml"
    if name not in names(folder):
        raise MissingError(f"no suite {name!r} in {folder}{did_you_mean(name, names(folder))}")
    return read(path)


def find(named: str) -> Suite:
    """Return the suite that a pipeline names: one of ours by its name, or one of its own by an absolute path.

    Raises:
        MissingError: there is none.
        BadInputError: see `read`, or the path is relative.
    """
    if not named.endswith(SUFFIX):
        return load(named)
    if not Path(named).is_absolute():
        raise BadInputError(f"suite {named!r} is no absolute path: a pipeline names it itself and not by a param")
    return read(Path(named))


def read(path: Path) -> Suite:
    """Return the suite in a file, named like the file.

    Raises:
        MissingError: it cannot be read.
        BadInputError: it is not YAML or says something a suite cannot say.
    """
    try:
        text = parse(path.read_bytes(), _WORDS)
    except OSError as error:
        raise MissingError(f"{path} cannot be read ({error.strerror}): put the suite there") from None
    if text.mistakes:
        at = text.inside(text.mistakes[0].span)
        raise BadInputError(f"{path}:{at.line}:{at.column}: {text.mistakes[0].message}; correct the suite")
    if not isinstance(text.value, dict):
        raise BadInputError(f"{path}:1: a suite is a mapping with `expectations`; correct the suite")
    prepared = _prepared(text)
    try:
        return Suite(path.stem, path, Contract.model_validate(prepared))
    except ValidationError as error:
        first = error.errors()[0]
        where = _place(prepared, text, first["loc"])
        raise BadInputError(
            f"{path}:{where}: {first['msg'].removeprefix('Value error, ')}; correct the suite"
        ) from None


def _prepared(text: YamlText) -> dict[str, Any]:
    """Give every rule its line, and spread a rule with `columns` over them."""
    raw: dict[str, Any] = text.value
    rules = raw.get("expectations")
    if not isinstance(rules, list):
        return raw
    return {
        **raw,
        "expectations": [
            one for place, rule in enumerate(rules) for one in _spread(rule, text.values["expectations", place].line)
        ],
    }


def _spread(rule: Any, line: int) -> Iterator[Any]:
    if not isinstance(rule, dict):
        yield rule
    elif isinstance(rule.get("columns"), list):
        shared = {key: value for key, value in rule.items() if key != "columns"}
        yield from ({**shared, "column": column, _LINE: line} for column in rule["columns"])
    else:
        yield {**rule, _LINE: line}


def _place(prepared: dict[str, Any], text: YamlText, where: tuple[int | str, ...]) -> str:
    """Return ``line: key`` of a pydantic location; a rule is named by its expectation."""
    if len(where) > 1 and isinstance(where[1], int):
        rule = prepared["expectations"][where[1]]
        rule = rule if isinstance(rule, dict) else {}
        path = [rule.get("expect", f"rule {where[1] + 1}"), *where[2:]]
        return f"{rule.get(_LINE, 1)}: {'.'.join(map(str, path))}"
    return f"{text.span(where[:1], key=True).line}: {'.'.join(map(str, where))}"
