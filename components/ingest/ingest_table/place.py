"""Where does a table lie, and how are its texts written? `logs/{country}/{day}.csv`: parts of a path are columns."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from components.ingest.ingest_table.fields import (
    ColumnName,
    Columns,
    Ids,
    Text,
    Time,
    Words,
    as_columns,
    as_time,
    in_file,
)
from components.ingest.wheels import FolderName, Shipped, Wheel
from components.platform.contract import ComponentConfig
from components.platform.paths import DataFiles
from features.rules.parse import parse

_BRACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:=([^{}/*?\[\]]+))?\}")
_MARK = 0xE000
"""First of the characters that no text assigns: they hold the braces' places while a pattern is translated."""


def checked_pattern(pattern: str) -> str:
    """Return the pattern.

    Raises:
        ValueError: a brace of it cannot be read; the message says what it must be.
    """
    if re.search(r"[{}]", _BRACE.sub("", pattern)):
        raise ValueError("a brace names a column, as in {country} or {country=DE}; correct it, or rename the folder")
    if "}{" in pattern:
        raise ValueError("two braces stand side by side: nothing says where one text ends; put a sign between them")
    names = [match[1] for match in _BRACE.finditer(pattern)]
    for index, match in enumerate(_BRACE.finditer(pattern)):
        if match[2] and match[1] in names[:index]:
            raise ValueError(f"{{{match[1]}}} stands before {match[0]}: say its text where it stands first")
    if names:
        _expression(pattern)
    return pattern


def bare(pattern: str) -> str:
    """Return a pattern with wildcards in the place of braces."""
    return _BRACE.sub(lambda match: match[2] or "*", pattern)


def parts_of(pattern: str, path: str) -> dict[str, str] | None:
    """Return what stands in the place of each brace; None when a brace that stands twice means two texts.

    Args:
        pattern: a checked one.
        path: one that `bare(pattern)` matches.
    """
    if "{" not in pattern:
        return {}
    found = _expression(pattern).match(path)
    return None if found is None else found.groupdict()


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    from fsspec.utils import glob_translate

    braces = list(_BRACE.finditer(pattern))
    marks = iter(range(_MARK, _MARK + len(braces)))
    text: str = glob_translate(_BRACE.sub(lambda _: chr(next(marks)), pattern))
    seen: set[str] = set()
    for index, brace in enumerate(braces):
        name, fixed = brace.groups()
        group = f"(?P={name})" if name in seen else f"(?P<{name}>{re.escape(fixed) if fixed else '[^/]+'})"
        seen.add(name)
        text = text.replace(chr(_MARK + index), group)
    return re.compile(text)


def _a_delimiter(sign: str) -> str:
    if not sign.isascii() or sign in '"\n\r\0':
        raise ValueError("must be one ASCII character other than a quote or a line break")
    return sign


class Table(ComponentConfig):
    """Where a table lies, and how its texts are written."""

    files: Annotated[DataFiles, AfterValidator(checked_pattern)]
    """CSV (`.csv`, `.csv.gz`) or Parquet files, one pattern such as `impressions/*.csv`: relative to the pipeline's
    file, absolute, `data://…` below the data folder, or any fsspec URL. What stands in the place of `{country}` is a
    column of that name; `{country=DE}` stands for the text DE alone."""
    delimiter: Annotated[str, AfterValidator(_a_delimiter)] | None = Field(None, min_length=1, max_length=1)
    """Between the fields of a CSV file, a comma when left out. With it a file of any name but `.parquet` is one."""
    names: tuple[ColumnName, ...] | None = Field(None, min_length=1)
    """Names of the columns, in order, of CSV files whose first line is a row already."""
    names_end_at: str | None = Field(None, min_length=1, max_length=1)
    """Sign at which the names in the first line of a CSV file end: with `:` the column `rating:float` is `rating`."""
    null_values: Words | None = None
    """Texts that mean missing, as an empty field or element does, such as NULL or \\N. Left out, a note tells of such
    words in ids and texts; an empty list says that they are meant."""
    values: dict[ColumnName, dict[Text, Text]] = Field(default_factory=dict)
    """Texts of a column of the file that are read as others, wherever the column is: `{country: {UK: GB}}`."""
    multiline: bool = False
    """Whether a text in quotes may go on in the next line of a CSV file. Otherwise that is an error, because a quote
    that is never closed looks the same."""

    @property
    def field_delimiter(self) -> str:
        """What stands between the fields of a CSV file."""
        return self.delimiter or ","

    @property
    def unquoted(self) -> frozenset[str]:
        """Names that a rule compares a column with, which may have been meant for texts."""
        return frozenset(one.other for rule in self.rules for every in parse(rule).either for one in every if one.other)

    @property
    def rules(self) -> list[str]:
        """Rules that the table is read with."""
        return []

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        if twice := sorted(name for name, count in Counter(self.names or ()).items() if count > 1):
            raise ValueError(f"names holds {twice[0]!r} twice: give one column another name")
        return self


class Unmatched(ComponentConfig):
    """How many impressions may lack their row of a table."""

    warn_above: float = Field(0.1, ge=0, le=1)
    """Share of the impressions above which the note about them is a warning."""
    at_most: float | None = Field(None, ge=0, le=1)
    """Share above which the stage fails. Left out, it fails when not one impression finds its row."""


class Entities(Table):
    """A table with attributes of users or of items: one row per id, or one per id and time."""

    key: ColumnName | Ids
    """Column of the ids, in the type of the impressions' ids; or columns that are joined."""
    valid_from: ColumnName | Time | None = None
    """Since when a row holds; an impression gets the newest row before it. Left out, a row holds from the beginning."""
    columns: Columns = Field(min_length=1)
    """Attributes: published name → type."""
    unmatched: Unmatched = Field(default_factory=Unmatched)
    """How many impressions may lack their row of this table."""

    @model_validator(mode="after")
    def _attributes(self) -> Self:
        for name, column in as_columns(self.columns).items():
            if column.moment is not None or column.rule is not None or column.outcome:
                raise ValueError(
                    f"{name!r} is of an impression, not of a row here: name it in the impressions' columns"
                )
        return self

    @property
    def ids(self) -> Ids:
        """Where the ids stand."""
        return self.key if isinstance(self.key, Ids) else Ids(column=self.key)

    @property
    def read(self) -> list[str]:
        """Names of the columns that a file must have."""
        since = [as_time(self.valid_from).column] if self.valid_from is not None else []
        return [*self.ids.read, *in_file(self.columns), *since]


class Explode(ComponentConfig):
    """Lists in one row that become rows of their own, one per element; elements of several lists go together."""

    columns: tuple[ColumnName, ...] = Field(min_length=1)
    """Names in the file of the columns that hold them, as many in each: lists of Parquet, or texts with a separator, in
    which an empty element is a missing one. A row whose lists are empty gives no rows; a note counts it."""
    separator: str = Field("|", min_length=1)
    """Between the elements in a text."""
    position: ColumnName | None = None
    """Name of a new column, as if the file had it, with the element's place in its list, from 1."""

    @property
    def named(self) -> list[str]:
        """Names of the columns that it makes."""
        return [*self.columns, *([self.position] if self.position else [])]

    def given(self, mentioned: list[str]) -> list[str]:
        """Return the names of columns that a file must have, of those that are mentioned.

        Raises:
            ValueError: nothing reads a column that it names.
        """
        if idle := next((one for one in self.named if one not in mentioned), None):
            raise ValueError(f"explode names {idle!r}, which nothing reads: name it in item, columns or a rule")
        return [name for name in mentioned if name != self.position]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if twice := sorted(name for name, count in Counter(self.named).items() if count > 1):
            raise ValueError(f"explode names {twice[0]!r} twice: give each column a name of its own")
        return self


class Log(Table):
    """What users did beside the impressions, such as purchases: published as a log of its own, for features."""

    user: ColumnName | Ids | None = None
    """Where the user's id stands; it is published under the name and in the type that the impressions' has."""
    item: ColumnName | Ids | None = None
    """Where the item's id stands, alike."""
    timestamp: ColumnName | Time
    """When it happened, published as `event_timestamp` in UTC; rows outside the window are left out."""
    created: ColumnName | Time | None = None
    """When the row was stored, published as `created_timestamp`; left out, the moment at which it happened."""
    explode: Explode | None = None
    """Parallel lists in a row, such as the items of a basket: each element becomes a row."""
    columns: Columns = Field(default_factory=dict)
    """More columns to publish: name → type."""
    duplicates: Literal["drop", "latest", "keep", "refuse"] = "drop"
    """As for impressions: what becomes of rows that agree."""
    late_hours: float | None = Field(None, ge=0)
    """Leave out rows stored later than this after the window's end."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.user is None and self.item is None:
            raise ValueError("say whose rows these are: name the column of the user's id in user, or of item's in item")
        stored_is_known(self)
        for name, column in as_columns(self.columns).items():
            if column.outcome:
                raise ValueError(f"{name!r} is no input of a ranker anyway: leave outcome out")
        _ = self.read
        return self

    @property
    def timed(self) -> bool:
        """Whether rows have a time."""
        return True

    @property
    def ids(self) -> dict[str, Ids]:
        """Where ids stand: of the `user`, of the `item`."""
        given = {"user": self.user, "item": self.item}
        return {
            role: one if isinstance(one, Ids) else Ids(column=one) for role, one in given.items() if one is not None
        }

    @property
    def rules(self) -> list[str]:
        """Rules that tell a column."""
        return [one.rule for one in as_columns(self.columns).values() if one.rule]

    @property
    def read(self) -> list[str]:
        """Names of the columns that a file must have."""
        times = [as_time(one).column for one in (self.timestamp, self.created) if one is not None]
        named = [*(name for ids in self.ids.values() for name in ids.read), *times, *in_file(self.columns)]
        return self.explode.given(named) if self.explode else named


def stored_is_known(table: Any) -> None:
    """Check that a table says when its rows were stored, where that is asked for.

    Raises:
        ValueError: it does not.
    """
    if table.created is None and (table.late_hours is not None or table.duplicates == "latest"):
        what = "late_hours" if table.late_hours is not None else "duplicates: latest"
        raise ValueError(f"{what} compares when rows were stored: name that column in created")


class Page(ComponentConfig):
    """Files that a user fetches by hand."""

    page: str = Field(pattern="^https?://")
    """Page to download them from, which the error about absent files names."""
    into: FolderName
    """Folder below the data folder to put them in: tables name them as `data://<into>/<file>`."""


def _kind(given: object) -> str:
    if isinstance(given, str):
        return "known"
    return "by hand" if isinstance(given, Page) or (isinstance(given, dict) and "page" in given) else "package"


Origin = Annotated[
    Annotated[Shipped, Tag("known")] | Annotated[Wheel, Tag("package")] | Annotated[Page, Tag("by hand")],
    Discriminator(_kind),
    Field(json_schema_extra=lambda schema: schema.update(anyOf=schema.pop("oneOf"))),
]
"""Where files come from; a block with a `page` is one, so that what is wrong in it is told of pages alone."""
