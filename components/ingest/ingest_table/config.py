"""What does `ingest_table` take and give? Your own tables of impressions, users and items in, typed events out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, field_validator, model_validator

from components.ingest.ingest_table.rule import parse
from components.ingest.ingest_table.time_format import checked
from components.ingest.wheels import SHIPPED, Shipped, Wheel
from components.platform import columns
from components.platform.artifacts import EventsTable
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports
from components.platform.errors import did_you_mean
from components.platform.paths import DataFiles
from features.declaration import Name
from features.ground.yaml_text import stripped

ColumnType = Literal["string", "int64", "float64", "bool", "array<string>", "array<int64>"]
"""Type that a column is published in; the Feast dtype of a feature that is made of it."""
USER, ITEM, EVENT, CREATED = "user_id", "item_id", "event_timestamp", "created_timestamp"
DOMAIN, REQUEST, PROPENSITY = "domain", "request_id", "propensity"


def _a_rule(text: str) -> str:
    parse(text)
    return text


Rule = Annotated[str, AfterValidator(_a_rule)]
"""Name of a 0/1 column, or comparisons joined by `and` and `or`."""
ColumnName = Annotated[str, Field(min_length=1)]
"""A column's name as the file has it."""


class Key(ComponentConfig):
    """A column of ids."""

    column: ColumnName
    """Name in the file."""
    type: Literal["string", "int64"] = "string"
    """Type of the ids, which the Feast entity must have as well."""
    numbered: bool = False
    """Whether texts are published as whole numbers: the place of the id's row in the table of users or items, from 1.
    An id without a row there is an error."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.numbered and self.type != "int64":
            raise ValueError("places are whole numbers: say type: int64 beside numbered")
        return self


class Time(ComponentConfig):
    """A column of times."""

    column: ColumnName
    """Name in the file."""
    unit: Literal["iso", "s", "ms", "us", "ns"] = "iso"
    """`iso` is text such as 2026-01-31 23:59:00, or a timestamp of a Parquet file; the others count from 1970 UTC."""
    format: str | None = None
    """Form of a text that is not ISO, such as %d.%m.%Y %H:%M; of %Y %y %m %b %B %d %e %H %I %p %M %S %f %z %T %F."""
    zone: str = "UTC"
    """Time zone of `iso` times that carry none, such as Europe/Berlin."""

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        if zone not in (zones := available_timezones()):
            near = did_you_mean(zone, zones) if zone else ""
            raise ValueError(f"must be a time zone such as Europe/Berlin{near if len(near) < 60 else ''}")
        return zone

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.format is not None:
            if self.unit != "iso":
                raise ValueError(f"format reads texts and unit: {self.unit} numbers: leave one of them out")
            checked(self.format)
        return self


def _as_fields_are_read(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stripped(word) for word in words))


Words = Annotated[tuple[str, ...], AfterValidator(_as_fields_are_read)]
"""Texts, compared with fields without white space at the ends."""


class Column(ComponentConfig):
    """A column that is published as it is, or as bands of its numbers."""

    type: ColumnType
    """Type to publish it in."""
    column: ColumnName | None = None
    """Name in the file; the published name when left out."""
    required: bool = False
    """Whether an empty field is an error rather than a missing value."""
    separator: str = Field("|", min_length=1, max_length=1)
    """Between the values of an array in a text."""
    optional: bool = False
    """Whether files may lack the column, such as those written before it came; their rows miss the value."""
    null_values: Words = ()
    """Texts that mean missing in this column, besides those of the table."""
    bands: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(None, min_length=1)
    """First whole number of every band but the lowest: `[25, 35]` publishes `under_25`, `25_34` and `35_plus`."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.bands is not None and self.type != "string":
            raise ValueError(f"bands are words such as under_{self.bands[0]}: say type: string beside them")
        if self.bands is not None and list(self.bands) != sorted(set(self.bands)):
            raise ValueError(f"bands must ascend, each number once: {sorted(set(self.bands))}")
        return self

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if self.optional and self.required:
            raise ValueError("a file that lacks an optional column misses every value of it: leave required out")
        return self


Columns = dict[Name, ColumnType | Column]
"""Published name → type, or a block when the file has another name for it."""


def _a_delimiter(sign: str) -> str:
    if not sign.isascii() or sign in '"\n\r\0':
        raise ValueError("must be one ASCII character other than a quote or a line break")
    return sign


class Table(ComponentConfig):
    """Where a table lies, and how its texts are written."""

    files: DataFiles
    """CSV (`.csv`, `.csv.gz`) or Parquet files, one pattern such as `impressions/*.csv`: relative to the pipeline's
    file, absolute, `data://…` below the data folder, or any fsspec URL."""
    delimiter: Annotated[str, AfterValidator(_a_delimiter)] | None = Field(None, min_length=1, max_length=1)
    """Between the fields of a CSV file, a comma when left out. With it a file of any name but `.parquet` is one."""
    names: tuple[ColumnName, ...] | None = Field(None, min_length=1)
    """Names of the columns, in order, of CSV files whose first line is a row already."""
    names_end_at: str | None = Field(None, min_length=1, max_length=1)
    """Sign at which the names in the first line of a CSV file end: with `:` the column `rating:float` is `rating`."""
    null_values: Words | None = None
    """Texts that mean missing, as an empty field or element does, such as NULL or \\N. Left out, a note tells of such
    words in ids and texts; an empty list says that they are meant."""
    multiline: bool = False
    """Whether a text in quotes may go on in the next line of a CSV file. Otherwise that is an error, because a quote
    that is never closed looks the same."""

    @property
    def field_delimiter(self) -> str:
        """What stands between the fields of a CSV file."""
        return self.delimiter or ","

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

    key: ColumnName
    """Column of the ids, in the type of the impressions' ids."""
    valid_from: ColumnName | Time | None = None
    """Since when a row holds; an impression gets the newest row before it. Left out, a row holds from the beginning."""
    columns: Columns = Field(min_length=1)
    """Attributes: published name → type."""
    unmatched: Unmatched = Field(default_factory=Unmatched)
    """How many impressions may lack their row of this table."""


class Config(Table):
    """Where the tables lie, and which column means what."""

    source: Shipped | Wheel | None = None
    """Where files below `data://` come from when they are absent: a wheel, by its name if it is a known one. Tables
    name the files, such as `data://ml-100k/ml-100k.inter`."""
    user: ColumnName | Key
    """Column of the user's id, published as `user_id`."""
    item: ColumnName | Key
    """Column of the item's id, published as `item_id`."""
    timestamp: ColumnName | Time
    """When the item was shown, published as `event_timestamp` in UTC."""
    feedback: dict[Name, Rule] = Field(min_length=1)
    """Label → when it is 1: the name of a 0/1 column, or comparisons such as `rating >= 4 and status == 'paid'`
    or `kind in ('buy', 'order')`, joined by `and` and `or`."""
    created: ColumnName | Time | None = None
    """When the row was stored, published as `created_timestamp`; left out, the moment of the impression."""
    domain: ColumnName | None = None
    """Column of the business domain, published as `domain`; no row may lack it."""
    request: ColumnName | None = None
    """Column that ties impressions of one request together, published as `request_id`."""
    propensity: ColumnName | None = None
    """Column with the chance that the item was shown, above 0 and at most 1, published as `propensity`."""
    columns: Columns = Field(default_factory=dict)
    """More columns of the impression to publish: name → type."""
    users: Entities | None = None
    """Attributes of users."""
    items: Entities | None = None
    """Attributes of items."""
    duplicates: Literal["drop", "latest", "keep", "refuse"] = "drop"
    """`drop` keeps one of the rows that agree in every published column; `latest`, of the rows of one user, item, time
    and request, the one stored last; `keep` keeps all; `refuse` makes two rows that agree an error."""
    late_hours: float | None = Field(None, ge=0)
    """Leave out rows stored later than this after the window's end. Where a cron expression starts the pipeline and
    the window ends with the day of the run, those stored at that day's first run or later are left out anyway."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        names = Counter(self.published)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(f"{', '.join(map(repr, twice))} would be published twice: give one of them another name")
        if self.created is None and (self.late_hours is not None or self.duplicates == "latest"):
            what = "late_hours" if self.late_hours is not None else "duplicates: latest"
            raise ValueError(f"{what} compares when rows were stored: name that column in created")
        for key, table, role in ((self.user_key, self.users, "users"), (self.item_key, self.items, "items")):
            if key.numbered and table is None:
                raise ValueError(f"the ids in {key.column!r} are numbered by their table: name it in {role}")
        wheel = self.wheel
        if wheel and not any(table.files.startswith(f"data://{wheel.into}/") for table in self.tables.values()):
            raise ValueError(f"source brings files into data://{wheel.into}/: name one of them in files")
        return self

    @property
    def tables(self) -> dict[str, Config | Entities]:
        """The tables by role: `events`, and `users` and `items` where they are named."""
        named: dict[str, Config | Entities | None] = {"events": self, "users": self.users, "items": self.items}
        return {role: table for role, table in named.items() if table is not None}

    @property
    def wheel(self) -> Wheel | None:
        """Where files come from when they are absent."""
        return SHIPPED[self.source] if isinstance(self.source, str) else self.source

    @property
    def published(self) -> list[str]:
        """Names of the columns of the events table."""
        roles = [USER, ITEM, EVENT, CREATED]
        given = {DOMAIN: self.domain, REQUEST: self.request, PROPENSITY: self.propensity}
        roles += [name for name, column in given.items() if column]
        return [*roles, *self.feedback, *(name for table in self.tables.values() for name in table.columns)]

    @property
    def user_key(self) -> Key:
        """The user's id."""
        return self.user if isinstance(self.user, Key) else Key(column=self.user)

    @property
    def item_key(self) -> Key:
        """The item's id."""
        return self.item if isinstance(self.item, Key) else Key(column=self.item)


def as_time(given: str | Time) -> Time:
    """Return a time column that may be given by its name alone."""
    return given if isinstance(given, Time) else Time(column=given)


def as_columns(given: Columns) -> dict[str, Column]:
    """Return columns that may be given by their type alone, by published name."""
    return {name: one if isinstance(one, Column) else Column(type=one) for name, one in given.items()}


class Outputs(Ports):
    """Typed impressions."""

    events: EventsTable


_ROLES: dict[str, columns.Role] = {
    **{"user_id": "user", "item_id": "item", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    "domain": "domain",
}


def _gives(config: Config, inputs: Mapping[str, columns.Columns]) -> Mapping[str, columns.Columns]:
    types = {"user_id": config.user_key.type, "item_id": config.item_key.type, "propensity": "float64"}
    types |= {"event_timestamp": "timestamp", "created_timestamp": "timestamp"}
    types |= {"domain": "string", "request_id": "string", **dict.fromkeys(config.feedback, "int64")}
    roles = _ROLES | dict.fromkeys(config.feedback, "feedback")
    labels = _label_columns(config.feedback.values())
    for table in config.tables.values():
        for name, column in as_columns(table.columns).items():
            types[name] = column.type
            if table is config and (column.column or name) in labels:
                roles[name] = "feedback"
    told = {name: columns.Column(types[name], roles.get(name, "other")) for name in config.published}
    return {"events": columns.Columns(told)}


def _label_columns(rules: Iterable[str]) -> frozenset[str]:
    """Return the columns of the file that alone decide a label: publishing one publishes the label."""
    read = (parse(rule).columns for rule in rules)
    return frozenset(columns[0] for columns in read if len(columns) == 1)


COMPONENT = ComponentSpec(
    name="ingest_table",
    version="6",
    summary="Turn your own CSV or Parquet tables of impressions, users and items into a typed table of impressions.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_table.component:run",
    windowed=True,
    flow=columns.Flow(gives=_gives),
    recheck="components.ingest.ingest_table.recheck:files_are_unchanged",
)
