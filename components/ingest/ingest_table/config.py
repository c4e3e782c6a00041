"""What does `ingest_table` take and give? Your own tables of impressions, users and items in, typed events out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from components.ingest.ingest_table.path_parts import checked as checked_pattern
from components.ingest.ingest_table.time_format import checked
from components.ingest.wheels import SHIPPED, FolderName, Shipped, Wheel
from components.platform import columns
from components.platform.artifacts import EventsTable
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports
from components.platform.errors import did_you_mean
from components.platform.paths import DataFiles
from features.declaration import Name
from features.ground.yaml_text import stripped
from features.rules.parse import Rule as Parsed
from features.rules.parse import parse

ColumnType = Literal[
    "string", "int64", "float64", "bool", "array<string>", "array<int64>", "array<float32>", "array<float64>"
]
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
            checked(self.format)
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


class Funnel(ComponentConfig):
    """Labels of which each happens only after the one before it."""

    labels: tuple[Name, ...] = Field(min_length=2)
    """Labels of `feedback`, in order, such as `[click, order]`."""
    broken: Literal["drop", "force", "keep"] = "drop"
    """What becomes of a row whose label is 1 while one before it is 0: `drop` leaves it out, `force` makes the labels
    before it 1, `keep` leaves it as it is. A note counts them."""


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

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if twice := sorted(name for name, count in Counter(self.named).items() if count > 1):
            raise ValueError(f"explode names {twice[0]!r} twice: give each column a name of its own")
        return self


class Config(Table):
    """Where the tables lie, and which column means what."""

    source: Origin | None = None
    """Where files below `data://` come from when they are absent: a wheel, by its name if it is a known one, or a page
    that the error names. Tables name the files, such as `data://ml-100k/ml-100k.inter`."""
    explode: Explode | None = None
    """Parallel lists in a row, such as the items that were shown and their prices: each element becomes a row, and its
    columns are named as any other, in `item`, `columns` and rules."""
    user: ColumnName | Key
    """Column of the user's id, published as `user_id` unless the block has a `name`."""
    item: ColumnName | Key
    """Column of the item's id, published as `item_id` unless the block has a `name`."""
    timestamp: ColumnName | Time
    """When the item was shown, published as `event_timestamp` in UTC."""
    feedback: dict[Name, Rule] = Field(min_length=1)
    """Label → when it is 1: the name of a 0/1 column, or comparisons such as `rating >= 4 and status == 'paid'`,
    `kind in ('buy', 'order')` or, of two columns, `reference == impressions`, joined by `and` and `or`."""
    funnel: Funnel | None = None
    """Labels that are nested, and what becomes of rows that break it."""
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
            said = ", ".join(map(repr, key.read))
            if key.numbered and table is None:
                raise ValueError(f"the ids in {said} are numbered by their table: name it in {role}")
            if table is not None and table.ids.columns and key.type != "string" and not key.numbered:
                raise ValueError(f"the key of {role} is joined and so a text: say type: string for {said}")
        origin = self.origin
        if origin and not any(table.files.startswith(f"data://{origin.into}/") for table in self.tables.values()):
            raise ValueError(f"source brings files into data://{origin.into}/: name one of them in files")
        return self

    @model_validator(mode="after")
    def _says_what_is_there(self) -> Self:
        for table in self.tables.values():
            if unread := sorted(set(table.values) - set(table.read)):
                near = did_you_mean(unread[0], table.read)
                raise ValueError(f"values changes texts of {unread[0]!r}, which nothing reads{near}: leave it out")
        if self.explode and (idle := next((one for one in self.explode.named if one not in self.mentioned), None)):
            raise ValueError(f"explode names {idle!r}, which nothing reads: name it in item, columns or a rule")
        labels = self.funnel.labels if self.funnel else ()
        for name in labels:
            if name not in self.feedback or labels.count(name) > 1:
                raise ValueError(f"funnel names labels of feedback, each once: correct {name!r} in {list(labels)}")
        return self

    @property
    def tables(self) -> dict[str, Config | Entities]:
        """The tables by role: `events`, and `users` and `items` where they are named."""
        named: dict[str, Config | Entities | None] = {"events": self, "users": self.users, "items": self.items}
        return {role: table for role, table in named.items() if table is not None}

    @property
    def origin(self) -> Wheel | Page | None:
        """Where files come from when they are absent."""
        return SHIPPED[self.source] if isinstance(self.source, str) else self.source

    @property
    def read(self) -> list[str]:
        """Names of the columns that a file of impressions must have."""
        made = self.explode.position if self.explode else None
        return [name for name in self.mentioned if name != made]

    @property
    def mentioned(self) -> list[str]:
        """Names of the columns that are read of a file of impressions, that of the place in a list too."""
        times = [as_time(one).column for one in (self.timestamp, self.created) if one is not None]
        roles = [name for name in (self.domain, self.request, self.propensity) if name]
        labels = [column for rule in self.feedback.values() for column in parse(rule).columns]
        return [*self.user_key.read, *self.item_key.read, *times, *roles, *labels, *in_file(self.columns)]

    @property
    def user_name(self) -> str:
        """Published name of the user's id."""
        return self.user_key.name or USER

    @property
    def item_name(self) -> str:
        """Published name of the item's id."""
        return self.item_key.name or ITEM

    @property
    def published(self) -> list[str]:
        """Names of the columns of the events table."""
        roles = [self.user_name, self.item_name, EVENT, CREATED]
        given = {DOMAIN: self.domain, REQUEST: self.request, PROPENSITY: self.propensity}
        roles += [name for name, column in given.items() if column]
        return [*roles, *self.feedback, *(name for table in self.tables.values() for name in table.columns)]

    @property
    def types(self) -> dict[str, str]:
        """Type of each column of the events table, by its name."""
        types: dict[str, str] = {self.user_name: self.user_key.type, self.item_name: self.item_key.type}
        types |= {EVENT: "timestamp", CREATED: "timestamp", DOMAIN: "string", REQUEST: "string", PROPENSITY: "float64"}
        types |= dict.fromkeys(self.feedback, "int64")
        for table in self.tables.values():
            types |= {name: column.type for name, column in as_columns(table.columns).items()}
        return {name: types[name] for name in self.published}

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


def in_file(given: Columns) -> list[str]:
    """Return the names, as files have them, of columns that are read from one."""
    read: list[str] = []
    for name, column in as_columns(given).items():
        if column.rule is not None:
            read += parse(column.rule).columns
        elif column.moment is None:
            read.append(column.column or name)
    return read


class Outputs(Ports):
    """Typed impressions."""

    events: EventsTable


def _gives(config: Config, inputs: Mapping[str, columns.Columns]) -> Mapping[str, columns.Columns]:
    roles: dict[str, columns.Role] = {config.user_name: "user", config.item_name: "item", DOMAIN: "domain"}
    roles |= {EVENT: "timestamp", CREATED: "timestamp", **dict.fromkeys(config.feedback, "feedback")}
    labels = _label_columns(config.feedback.values(), config.item_key.read)
    for name, column in as_columns(config.columns).items():
        rule = parse(column.rule) if column.rule is not None else None
        read = in_file({name: column}) if rule is None else _deciding(rule, config.item_key.read)
        if column.outcome or labels.intersection(read):
            roles[name] = "feedback"
    told = {name: columns.Column(dtype, roles.get(name, "other")) for name, dtype in config.types.items()}
    return {"events": columns.Columns(told)}


def _label_columns(rules: Iterable[str], item: Collection[str]) -> frozenset[str]:
    """Return the columns of the file that alone, or compared with the item, decide a label: they publish it."""
    read = (_deciding(parse(rule), item) for rule in rules)
    return frozenset(columns[0] for columns in read if len(columns) == 1)


def _deciding(rule: Parsed, item: Collection[str]) -> list[str]:
    """Return the columns that a rule reads, but for those of the item that it compares with another column."""
    pairs = {name for every in rule.alternatives for one in every if one.other for name in one.columns}
    return [name for name in rule.columns if name not in item or name not in pairs]


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
