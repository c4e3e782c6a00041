"""What may be said of a column of a file? Its name, its type, where ids stand and how times are written."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, model_validator

from components.platform.contract import ComponentConfig
from components.platform.errors import did_you_mean
from features.declaration import Name
from features.ground.yaml_text import stripped
from features.rules.parse import parse

ColumnType = Literal[
    "string", "int64", "float64", "bool", "array<string>", "array<int64>", "array<float32>", "array<float64>"
]
"""Type that a column is published in; the Feast dtype of a feature that is made of it."""


def _a_rule(text: str) -> str:
    parse(text)
    return text


Rule = Annotated[str, AfterValidator(_a_rule)]
"""Name of a 0/1 column, or comparisons joined by `and` and `or`."""
ColumnName = Annotated[str, Field(min_length=1)]
"""A column's name as the file has it."""


class Ids(ComponentConfig):
    """Where ids stand: in one column, or in several that are joined."""

    column: ColumnName | None = None
    """Name in the file."""
    columns: tuple[ColumnName, ...] | None = Field(None, min_length=1)
    """Instead of one column, those whose texts are joined in this order; one that is missing is empty."""
    separator: str | None = Field(None, min_length=1)
    """Between the joined texts, which may not hold it; `-` when left out."""
    head: int | None = Field(None, ge=1)
    """How many characters each joined text begins the id with; all when left out."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.column is None) == (self.columns is None):
            raise ValueError("say where the ids stand: in one column, or in columns that are joined")
        if self.columns is None and (self.separator is not None or self.head is not None):
            raise ValueError("separator and head shape joined texts: name their columns in columns")
        return self

    @property
    def read(self) -> tuple[str, ...]:
        """Names of the columns in the file."""
        return self.columns or (self.column or "",)


class Key(Ids):
    """The ids of users or items."""

    name: Name | None = None
    """Name to publish them under; `user_id` or `item_id` when left out."""
    type: Literal["string", "int64"] = "string"
    """Type of the ids, which the Feast entity must have as well."""
    numbered: bool = False
    """Whether texts are published as whole numbers: the place of the id's row in the table of users or items, from 1.
    An id without a row there is an error."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.numbered and self.type != "int64":
            raise ValueError("places are whole numbers: say type: int64 beside numbered")
        if self.columns is not None and self.type != "string" and not self.numbered:
            raise ValueError("joined columns are a text: say type: string, or numbered")
        return self


_zones = cache(available_timezones)
"""Every name that this machine knows; looking takes longer than the rest of a file's check."""


def _a_zone(zone: str) -> str:
    if zone not in (zones := _zones()):
        near = did_you_mean(zone, zones) if zone else ""
        raise ValueError(f"must be a time zone such as Europe/Berlin{near if len(near) < 60 else ''}")
    return zone


Zone = Annotated[str, AfterValidator(_a_zone)]
"""A time zone such as Europe/Berlin."""


class Time(ComponentConfig):
    """A column of times."""

    column: ColumnName
    """Name in the file."""
    unit: Literal["iso", "s", "ms", "us", "ns"] = "iso"
    """`iso` is text such as 2026-01-31 23:59:00, or a timestamp of a Parquet file; the others count from 1970 UTC."""
    format: str | None = None
    """Form of a text that is not ISO, such as %d.%m.%Y %H:%M; of %Y %y %m %b %B %d %e %H %I %p %M %S %f %z %T %F."""
    zone: Zone = "UTC"
    """Time zone of `iso` times that carry none, such as Europe/Berlin."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.format is not None:
            if self.unit != "iso":
                raise ValueError(f"format reads texts and unit: {self.unit} numbers: leave one of them out")
            checked_format(self.format)
        return self


def _as_fields_are_read(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stripped(word) for word in words))


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must be a text with a letter or sign: an empty field is a missing one")
    return text


Words = Annotated[tuple[str, ...], AfterValidator(_as_fields_are_read)]
"""Texts, compared with fields without white space at the ends."""


Text = Annotated[str, AfterValidator(stripped), AfterValidator(_not_empty)]
"""A text that is not empty, without white space at the ends."""


class Column(ComponentConfig):
    """A column that is published as it is, as bands of its numbers, or as a part of the impression's moment."""

    type: ColumnType
    """Type to publish it in."""
    column: ColumnName | None = None
    """Name in the file; the published name when left out."""
    required: bool = False
    """Whether an empty field is an error rather than a missing value."""
    separator: str = Field("|", min_length=1, max_length=1)
    """Between the values of an array in a text."""
    length: int | None = Field(None, ge=1)
    """How many values each array has, as vectors do; a row may miss the array as a whole, and another number of values
    is an error."""
    optional: bool = False
    """Whether files may lack the column, such as those written before it came; their rows miss the value."""
    null_values: Words = ()
    """Texts that mean missing in this column, besides those of the table."""
    bands: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(None, min_length=1)
    """First whole number of every band but the lowest: `[25, 35]` publishes `under_25`, `25_34` and `35_plus`."""
    moment: Literal["hour", "weekday"] | None = None
    """Instead of a column of the file, the `hour` (0 to 23) or the `weekday` (1 is Monday) of the impression."""
    zone: Zone | None = None
    """Time zone of that hour or weekday; UTC when left out."""
    rule: Rule | None = None
    """Instead of a column of the file, comparisons as in `feedback`: 1 where they hold and 0 where not, missing where a
    column of theirs is, unless `required`."""
    outcome: bool = False
    """Whether it is known only after the impression, as a label is, so that no ranker may read it."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.bands is not None and self.type != "string":
            raise ValueError(f"bands are words such as under_{self.bands[0]}: say type: string beside them")
        if self.bands is not None and list(self.bands) != sorted(set(self.bands)):
            raise ValueError(f"bands must ascend, each number once: {sorted(set(self.bands))}")
        return self

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if self.length is not None and not self.type.startswith("array<"):
            raise ValueError(f"length is that of an array, and type is {self.type}: leave one of them out")
        if self.optional and self.required:
            raise ValueError("a file that lacks an optional column misses every value of it: leave required out")
        return self

    @model_validator(mode="after")
    def _of_a_rule(self) -> Self:
        if self.rule is None:
            return self
        if parse(self.rule).flag is not None:
            raise ValueError(f"rule compares columns: name {self.rule!r}, a 0/1 column, in column")
        if self.type != "int64":
            raise ValueError("a rule gives 0 or 1: say type: int64 beside it")
        if self.column or self.optional or self.null_values or self.bands or self.moment:
            raise ValueError("a rule names its own columns: leave all but type, required and outcome out")
        return self

    @model_validator(mode="after")
    def _of_a_moment(self) -> Self:
        if self.moment is None:
            if self.zone is not None:
                raise ValueError("zone is that of an hour or a weekday: name it in moment")
        elif self.type != "int64":
            raise ValueError(f"{self.moment} is a whole number: say type: int64 beside moment")
        elif self.column or self.required or self.optional or self.null_values or self.bands:
            raise ValueError(f"{self.moment} is that of the impression's timestamp: leave all but type and zone out")
        return self


Columns = dict[Name, ColumnType | Column]
"""Published name → type, or a block when the file has another name for it."""


def as_time(given: str | Time) -> Time:
    """Return a time column that may be given by its name alone."""
    return given if isinstance(given, Time) else Time(column=given)


def as_columns(given: Columns) -> dict[str, Column]:
    """Return columns that may be given by their type alone, by published name."""
    return {name: one if isinstance(one, Column) else Column(type=one) for name, one in given.items()}


def in_file(given: Columns) -> list[str]:
    """Return the names, as files have them, of columns that are read from one."""
    read: list[str] = []
    for name, column in as_columns(given).items():
        if column.rule is not None:
            read += parse(column.rule).columns
        elif column.moment is None:
            read.append(column.column or name)
    return read


_DIRECTIVES = frozenset("YymbBdeHIpMSfzTF%")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_SPREAD = {"T": "HMS", "F": "Ymd"}
_SAME = {"y": "Y", "b": "m", "B": "m", "e": "d", "I": "H"}
"""Directives that say the same part of a date in another way."""


def checked_format(text: str) -> str:
    """Return the format.

    Raises:
        ValueError: it has an unknown directive, or says no whole date; the message says what it must be.
    """
    given = _DIRECTIVE.findall(text)
    unknown = next((one for one in given if one not in _DIRECTIVES), None)
    if unknown is not None:
        raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; '%{unknown}' is none of its parts")
    parts = [_SAME.get(one, one) for name in given for one in _SPREAD.get(name, name) if one != "%"]
    if len(set(parts)) != len(parts):
        raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; {text!r} says a part of the time twice")
    if not {"Y", "m", "d"} <= set(parts):
        raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; {text!r} lacks the year, the month or the day")
    for part, needs in (("M", "H"), ("H", "M"), ("S", "M"), ("f", "S"), ("p", "H")):
        if part in parts and needs not in parts:
            raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; '%{part}' needs '%{needs}' beside it")
    if ("I" in given) != ("p" in given):
        raise ValueError("must be a format such as %m/%d/%Y %I:%M %p; '%I' and '%p' stand together")
    if "f" in given and ".%f" not in text:
        raise ValueError("must be a format such as %H:%M:%S.%f; '%f' follows a point")
    return text


def has_time(text: str) -> bool:
    """Return whether a format says more than the day."""
    return any(one in "HIT" for one in _DIRECTIVE.findall(text))


def has_offset(text: str) -> bool:
    """Return whether a format says how far the time is from UTC."""
    return "z" in _DIRECTIVE.findall(text)


def engine_format(text: str) -> str:
    """Return the format as polars writes it."""
    return text.replace(".%f", "%.f")
