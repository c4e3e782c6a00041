"""What does `ingest_table` take and give? Your own tables of impressions, users and items in, typed events out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from components.ingest.events_table import EVENTS
from components.ingest.ingest_table.fields import ColumnName, Columns, Key, Rule, Time, as_columns, as_time, in_file
from components.ingest.ingest_table.place import Entities, Explode, Log, Origin, Page, Table, stored_is_known
from components.ingest.wheels import SHIPPED, Wheel
from components.platform import columns
from components.platform.artifacts import EventsTable
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports
from components.platform.errors import did_you_mean
from features.declaration import Name
from features.rules.parse import Rule as Parsed
from features.rules.parse import parse

USER, ITEM, EVENT, CREATED = "user_id", "item_id", "event_timestamp", "created_timestamp"
DOMAIN, REQUEST, PROPENSITY = "domain", "request_id", "propensity"


class Funnel(ComponentConfig):
    """Labels of which each happens only after the one before it."""

    labels: tuple[Name, ...] = Field(min_length=2)
    """Labels of `feedback`, in order, such as `[click, order]`."""
    broken: Literal["drop", "force", "keep"] = "drop"
    """What becomes of a row whose label is 1 while one before it is 0: `drop` leaves it out, `force` makes the labels
    before it 1, `keep` leaves it as it is. A note counts them."""


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
    timestamp: Literal["none"] | ColumnName | Time
    """When the item was shown, published as `event_timestamp` in UTC. `none` where rows have no time: each stands
    at the window's start, splits are random, and no feature counts what came before."""
    feedback: dict[Name, Rule] = Field(min_length=1)
    """Label → when it is 1: the name of a 0/1 column, or comparisons such as `rating >= 4 and status == 'paid'`,
    `kind in ('buy', 'order')` or, of two columns, `reference == impressions`, joined by `and` and `or`, and further 0/1
    columns, `paid and not returned`."""
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
    logs: dict[Name, Log] = Field(default_factory=dict)
    """What users did beside the impressions: name → files and columns of a log, such as `buys`, which recipes read as
    `Activity(log="buys")`."""
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
        stored_is_known(self)
        if not self.timed:
            self._without_time()
        for name, log in self.logs.items():
            if name in (EVENTS, "window"):
                raise ValueError(f"logs: {name!r} is a file of every events table: give the log another name")
            of_log = Counter(self.columns_of(log))
            if twice := sorted(one for one, count in of_log.items() if count > 1):
                raise ValueError(f"log {name!r} would publish {twice[0]!r} twice: give one of them another name")
            for role, key in (("user", self.user_key), ("item", self.item_key)):
                if (ids := log.ids.get(role)) and ids.columns and key.type != "string" and not key.numbered:
                    raise ValueError(f"log {name!r} joins its {role} ids to a text, and the impressions' are numbers")
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

    def _without_time(self) -> None:
        given: dict[str, object] = {"created": self.created, "logs": self.logs}
        tables = {"users": self.users, "items": self.items}
        given |= {f"{role}.valid_from": table.valid_from for role, table in tables.items() if table is not None}
        given |= {f"columns.{name}.moment": one.moment for name, one in as_columns(self.columns).items()}
        if compared := next((key for key, value in given.items() if value), None):
            raise ValueError(f"timestamp: none says that rows have no time, and {compared} needs one: leave either out")

    @model_validator(mode="after")
    def _says_what_is_there(self) -> Self:
        for table in self.tables.values():
            if unread := sorted(set(table.values) - set(table.read)):
                near = did_you_mean(unread[0], table.read)
                raise ValueError(f"values changes texts of {unread[0]!r}, which nothing reads{near}: leave it out")
        _ = self.read
        labels = self.funnel.labels if self.funnel else ()
        for name in labels:
            if name not in self.feedback or labels.count(name) > 1:
                raise ValueError(f"funnel names labels of feedback, each once: correct {name!r} in {list(labels)}")
        return self

    @property
    def tables(self) -> dict[str, Config | Entities | Log]:
        """The tables by role: `events`, `users` and `items` where they are named, and `logs/<name>` of each log."""
        return {**self.described, **{f"logs/{name}": log for name, log in self.logs.items()}}

    @property
    def described(self) -> dict[str, Config | Entities]:
        """The tables by role of which impressions have columns."""
        named: dict[str, Config | Entities | None] = {"events": self, "users": self.users, "items": self.items}
        return {role: table for role, table in named.items() if table is not None}

    def columns_of(self, log: Log) -> list[str]:
        """Return the names of a log's columns, in order."""
        names = {"user": self.user_name, "item": self.item_name}
        return [*(names[role] for role in log.ids), EVENT, CREATED, *log.columns]

    def types_of(self, log: Log) -> dict[str, str]:
        """Return the type of each column of a log, by its name."""
        types: dict[str, str] = {self.user_name: self.user_key.type, self.item_name: self.item_key.type}
        types |= {EVENT: "timestamp", CREATED: "timestamp"}
        types |= {name: column.type for name, column in as_columns(log.columns).items()}
        return {name: types[name] for name in self.columns_of(log)}

    @property
    def origin(self) -> Wheel | Page | None:
        """Where files come from when they are absent."""
        return SHIPPED[self.source] if isinstance(self.source, str) else self.source

    @property
    def read(self) -> list[str]:
        """Names of the columns that a file of impressions must have."""
        return self.explode.given(self.mentioned) if self.explode else self.mentioned

    @property
    def mentioned(self) -> list[str]:
        """Names of the columns that are read of a file of impressions, that of the place in a list too."""
        given = (self.timestamp if self.timed else None, self.created)
        times = [as_time(one).column for one in given if one is not None]
        roles = [name for name in (self.domain, self.request, self.propensity) if name]
        labels = [column for rule in self.feedback.values() for column in parse(rule).columns]
        return [*self.user_key.read, *self.item_key.read, *times, *roles, *labels, *in_file(self.columns)]

    @property
    def rules(self) -> list[str]:
        """Rules that tell a label or a column."""
        return [*self.feedback.values(), *(one.rule for one in as_columns(self.columns).values() if one.rule)]

    @property
    def timed(self) -> bool:
        """Whether rows have a time."""
        return self.timestamp != "none"

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
        return [*roles, *self.feedback, *(name for table in self.described.values() for name in table.columns)]

    @property
    def types(self) -> dict[str, str]:
        """Type of each column of the events table, by its name."""
        types: dict[str, str] = {self.user_name: self.user_key.type, self.item_name: self.item_key.type}
        types |= {EVENT: "timestamp", CREATED: "timestamp", DOMAIN: "string", REQUEST: "string", PROPENSITY: "float64"}
        types |= dict.fromkeys(self.feedback, "int64")
        for table in self.described.values():
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
    logs = {
        name: columns.Columns({one: columns.Column(dtype) for one, dtype in config.types_of(log).items()})
        for name, log in config.logs.items()
    }
    return {"events": columns.Columns(told, logs=logs, timed=config.timed)}


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
    version="7",
    summary="Turn your own CSV or Parquet tables of impressions, users and items into a typed table of impressions.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_table.component:run",
    windowed=True,
    flow=columns.Flow(gives=_gives),
    recheck="components.ingest.ingest_table.reading.files:files_are_unchanged",
)
