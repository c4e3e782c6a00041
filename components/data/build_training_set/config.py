"""What does `build_training_set` take and give? Events and features in, three leak-free splits out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from components.platform.artifacts import EventsTable, FeatureTables, TrainingSet
from components.platform.columns import Column, Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.errors import did_you_mean
from components.platform.paths import DefinitionsFile
from components.rankers.tasks import tasks_of
from features.declaration import (
    OF_REQUESTS,
    Declaration,
    FieldEncoding,
    Frozen,
    JudgeBy,
    Name,
    Position,
    Window,
    Within,
)
from features.rules.parse import parse
from features.services.served import Freshness

Where = tuple[str | int, ...]
ROW = "row_id"
"""Column of a training set's raw rows: their number, in the order of time."""


class Split(ComponentConfig):
    """How rows are divided."""

    by: Literal["time", "random"] = "time"
    """`time` puts the newest rows into test, whole timestamps together; `random` shuffles by `seed`. Where the rows
    have requests, a request goes as one, by the time of its last row."""
    train: float = Field(0.8, gt=0, lt=1)
    """Share of rows to train on."""
    validation: float = Field(0.1, gt=0, lt=1)
    """Share of rows that choose the best epoch."""
    test: float = Field(0.1, gt=0, lt=1)
    """Share of rows that only the evaluation sees."""
    seed: int = 0
    """Seed of a random split."""
    validation_from: AwareDatetime | None = None
    """First moment of validation, which ends the training split; with `test_from` it replaces the shares."""
    test_from: AwareDatetime | None = None
    """First moment of test, which ends validation; the three parts are half-open, kept in UTC."""

    test_where: str | None = None
    """Condition on columns of the impression, such as `is_rand == 1`: test keeps the rows that meet it, train and
    validation the others, and what is then on the wrong side is left out. For rows that were shown at random."""

    @field_validator("test_where")
    @classmethod
    def _is_a_rule(cls, rule: str | None) -> str | None:
        if rule is not None:
            parse(rule)
        return rule

    @field_validator("validation_from", "test_from")
    @classmethod
    def _utc(cls, moment: datetime | None) -> datetime | None:
        return moment.astimezone(UTC) if moment is not None else None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test is {total:g}, must be 1")
        if self.validation_from is None and self.test_from is None:
            return self
        if self.by != "time":
            raise ValueError("validation_from and test_from need by: time")
        if self.validation_from is None or self.test_from is None:
            raise ValueError("validation_from and test_from belong together: name both or neither")
        if self.test_from <= self.validation_from:
            raise ValueError(f"test_from {self.test_from} must be later than validation_from {self.validation_from}")
        return self


class RowWeight(ComponentConfig):
    """How much a row counts in the loss of a feedback. Weights are divided by their mean over the training split."""

    column: Name | None = None
    """Column with the weight itself, a number of at least 0."""
    propensity: Name | None = None
    """Column with the chance that the item was shown, above 0 and at most 1: the weight is one over it, so that rows
    count as if every item had been shown equally often."""
    clip: float = Field(0.01, gt=0, le=1)
    """Least propensity; a larger one trades bias for variance."""
    form: Literal["impressions", "positives"] = "impressions"
    """Which rows a propensity weighs: all `impressions`, where it is the chance to be shown, or the `positives` alone,
    where it is the chance that what was shown was looked at, without which nothing is liked."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.column is None) == (self.propensity is None):
            raise ValueError("say where the weight comes from: name one of column and propensity")
        if self.column is not None and (of := sorted({"clip", "form"} & self.model_fields_set)):
            raise ValueError(f"{of[0]} is of a propensity, and column is the weight itself: leave {of[0]} out")
        return self

    @property
    def source(self) -> str:
        """Column that the weight is made of."""
        return self.column or self.propensity or ""


class Config(ComponentConfig):
    """Which columns play which role, which features join, and how rows are split and encoded."""

    feature_service: Name
    """Feast feature service to join as of each impression."""
    definitions: DefinitionsFile | None = None
    """The same file with your own Feast definitions as in `materialize_features`."""
    feedback: tuple[Name, ...] = Field(min_length=1)
    """Ordered binary labels, shallow to deep."""
    funnel: bool = True
    """Whether every deeper label implies the shallower ones; checked on the rows."""
    domain: Name | None = None
    """Column of the business domain; also a feature of the ranker."""
    user: Name = "user_id"
    """Column of the user id; also a feature of the ranker."""
    item: Name = "item_id"
    """Column of the item id; also a feature of the ranker."""
    request: Name | None = None
    """Column that is equal for rows that one user was shown together: a request, slate or session. Splits keep it
    whole, and evaluation orders within it. No feature of the ranker."""
    group: Name | None = None
    """Column of the group that a fairness audit asks about, such as an age band: evaluation shows the figures of each.
    It travels with the raw rows, and is no feature of the ranker unless the service or another key makes it one."""
    position: Position | None = None
    """Column of the row's place in what was shown, a feature of the ranker: training reads what was, validation, test
    and every answer the one place that is `served`. For a place that should be asked about, as a policy does, use
    `context`."""
    within: dict[Name, Within] = Field(default_factory=dict)
    """Features of a row among those of its `request`, such as `price_rank: {of: price, take: rank}`; `of` is a feature,
    or a column in `context` or `carry`. Every answer makes them anew of the rows that are asked about together."""
    judge_by: JudgeBy = "auc"
    """What makes one ranker better than another: training keeps the epoch that has most of it on validation, and the
    gate guards it. `request_auc`, `mrr` and `ndcg` (of 10 places) are of requests."""
    context: tuple[Name, ...] = ()
    """More columns of the impression known at request time, used as features (`event_timestamp` too)."""
    carry: tuple[Name, ...] = ()
    """Columns of the impression that travel with the raw rows and are no features, such as a propensity."""
    weights: dict[Name, RowWeight] = Field(default_factory=dict)
    """Feedback → how much a row counts in its loss; every row counts once where it is left out. Metrics count every
    row once unless they are asked for `weighted: true`."""
    drop: tuple[Name, ...] = ()
    """Features of the service, or ids, that the ranker must not see."""
    include: tuple[Name, ...] = ()
    """Auxiliary features of the service to join as well, such as the times of a history (`recent_times`)."""
    split: Split = Split()
    """How rows are divided."""
    encode: dict[Name, FieldEncoding] = Field(default_factory=dict)
    """Encodings that replace the default of a feature's dtype."""
    features: Literal["joined", "served"] = "joined"
    """`joined` looks features up as of each impression; `served` takes the values that the answer was made of, from
    events of `ingest_served` with `features: true`: nothing is joined, so nothing can differ."""
    encode_when_read: bool = False
    """Publish raw rows and the encoder, and let who reads encoded rows make them of both: for `continue_ranker`, which
    encodes with a vocabulary of its own, so that nothing reads those of this stage."""
    freshness: Freshness | None = None
    """How old features will be when they are served: `{every: 1d, lag: 2h}` joins what a materialisation at midnight,
    there to be read at 02:00, would have given. Left out, a row sees every event before it, as a streaming store would
    give it."""

    @model_validator(mode="after")
    def _own_name(self) -> Self:
        for key in ("user", "item", "domain", "request", "group", "context", "carry", "feedback"):
            value = getattr(self, key)
            if ROW in (value if isinstance(value, tuple) else (value,)):
                raise ValueError(
                    f"{key} names {ROW!r}, which is the number of a row in a training set: publish the column under "
                    "another name"
                )
        return self

    @model_validator(mode="after")
    def _within_requests(self) -> Self:
        if self.within and self.request is None:
            raise ValueError("within compares the rows of a request: name their column in request")
        return self

    @model_validator(mode="after")
    def _added_by_place(self) -> Self:
        for key, names in (("drop", self.drop), ("encode", self.encode)):
            if (added := self.declaration().added) in names:
                raise ValueError(f"the effect of {added!r} is added by place: leave it out of {key}")
        return self

    @model_validator(mode="after")
    def _judged_within_requests(self) -> Self:
        if self.judge_by in OF_REQUESTS and self.request is None:
            raise ValueError(f"judge_by: {self.judge_by} is measured within requests: name their column in request")
        if self.judge_by == "log_loss" and self.position is not None:
            raise ValueError(
                "judge_by: log_loss is of the places that rows were shown in, and validation is encoded for the one "
                "that is served: judge by a metric of order, or leave position out"
            )
        return self

    @model_validator(mode="after")
    def _weights_of_feedback(self) -> Self:
        for name in self.weights:
            if name not in self.feedback:
                raise ValueError(f"weights names {name!r}, which is no feedback{did_you_mean(name, self.feedback)}")
        return self

    def declaration(self) -> Declaration:
        """Return the roles of the columns."""
        return Declaration(
            feedback=self.feedback,
            funnel=self.funnel,
            user=self.user,
            item=self.item,
            domain=self.domain,
            request=self.request,
            group=self.group,
            position=self.position,
            within=self.within,
            judge_by=self.judge_by,
        )


class Inputs(Ports):
    """Impressions with labels, and the features to join."""

    events: EventsTable
    features: FeatureTables


class Outputs(Ports):
    """Three splits, raw and encoded."""

    training_set: TrainingSet


class SplitPart(Frozen):
    """One split in figures."""

    rows: int
    window: Window | None
    rates: dict[str, float]
    users: int
    unseen_users: float
    unseen_items: float
    unknown: dict[str, float] = Field(default_factory=dict)
    """By field with a vocabulary: share of its values, in lists of its events, that the training split never held."""


class SplitReport(Frozen):
    """What the join and the split did."""

    rows_in: int
    rows_out: int
    missing: dict[str, float]
    train: SplitPart
    validation: SplitPart
    test: SplitPart


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    events, features = inputs.get("events"), inputs.get("features")
    known = {name: Column() for _, name in _named(config)}
    if events is not None:
        known |= {name: events.known[name] for name in known if name in events.known}
    known |= {name: Column(known[name].dtype, "feedback") for name in config.feedback}
    if config.request is not None:
        known[config.request] = Column(known[config.request].dtype, "request")
    if features is not None:
        known |= _joined(config, features)
    hidden = {*config.carry, *config.drop}
    if config.group is not None and config.group not in {*known, *config.within}:
        known[config.group] = events.known.get(config.group, Column()) if events is not None else Column()
        hidden.add(config.group)
    known |= {name: Column("float64") for name in config.within}
    kinds = {name: encoding.kind for name, encoding in config.encode.items() if encoding.kind}
    known = {
        name: Column(column.dtype, column.role, kinds.get(name, column.kind), name in hidden)
        for name, column in known.items()
    }
    whole = features is not None and features.whole
    # Tasks of a label that does not exist are told once, at the label.
    sound = events is None or not any(events.absent(name) for name in config.feedback)
    tasks = tuple(task.name for task in tasks_of(config.declaration())) if sound else ()
    return {"training_set": Columns(known, whole, tasks, weighted=bool(config.weights), vectors=False)}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    events, features = inputs.get("events"), inputs.get("features")
    if events is not None:
        yield from _order(config, events)
        yield from _absent(config, events)
        yield from _labels(config, events)
    if events is not None and features is not None:
        yield from _within(config, events, features)
        yield from _group(config, events, features)
    if features is not None:
        yield from _keys(config, events, features)
        yield from _features(config, features)


def _order(config: Config, events: Columns) -> Iterator[Fault]:
    """Rows without a time have no order that a split or a feature could follow."""
    if events.timed:
        return
    none, time = "the events have no time (timestamp: none)", config.declaration().time
    if config.split.by == "time":
        yield Fault(("split",), f"{none}: split them by: random")
    if time in config.context:
        yield Fault(("context", config.context.index(time)), f"{none}: leave {time!r} out")


def _named(config: Config) -> Iterator[tuple[Where, str]]:
    """Yield every column of the impression that the config names, with its place."""
    yield ("user",), config.user
    yield ("item",), config.item
    for role in ("domain", "request"):
        if (name := getattr(config, role)) is not None:
            yield (role,), name
    if config.position is not None:
        yield ("position", "column"), config.position.column
    for key in ("feedback", "context", "carry"):
        for position, name in enumerate(getattr(config, key)):
            yield (key, position), name
    yield (), config.declaration().time


def _weighed(config: Config) -> Iterator[tuple[Where, str]]:
    """Yield the columns that weights are made of, and that tell test rows; they may be known after the impression."""
    for name in parse(config.split.test_where).columns if config.split.test_where else ():
        yield ("split", "test_where"), name
    for feedback, weight in config.weights.items():
        yield ("weights", feedback, "column" if weight.column else "propensity"), weight.source


def _within(config: Config, events: Columns, features: Columns) -> Iterator[Fault]:
    """Yield what a comparison within requests cannot be made of, or is called like."""
    rows = {name for _, name in _named(config)}
    joined = _joined(config, features)
    for name, made in config.within.items():
        column = events.known.get(made.of)
        if made.of not in rows | {*joined} and features.whole:
            known = events.absent(made.of) is None
            said = f"carry: [{made.of}] brings it along" if known else f"name a feature{did_you_mean(made.of, joined)}"
            yield Fault(("within", name, "of"), f"the training set has no column {made.of!r}: {said}")
        elif made.of in rows and column is not None and column.role == "feedback":
            yield Fault(("within", name, "of"), f"{made.of!r} is known only after the impression: name another")
        if name in rows or name in joined:
            yield Fault(("within", name), f"there is a column {name!r} already: choose another name", "key")


def _group(config: Config, events: Columns, features: Columns) -> Iterator[Fault]:
    """A group is a column of the impression, or one that is joined or made."""
    made = {*_joined(config, features), *config.within}
    if config.group is None or config.group in made or not features.whole:
        return
    if absent := events.absent(config.group):
        yield Fault(("group",), f"the events have {absent}")


def _absent(config: Config, events: Columns) -> Iterator[Fault]:
    for where, name in (*_named(config), *_weighed(config)):
        if absent := events.absent(name):
            published = [n for n, column in events.known.items() if column.role == "domain"]
            if where == ("domain",) and published and f"mean {published[0]!r}" not in absent:
                absent = f"no column {name!r}: the domain is published as {published[0]!r}"
            yield Fault(where, f"the events have {absent}")


def _labels(config: Config, events: Columns) -> Iterator[Fault]:
    """A label is known only after the impression that a ranker is asked about."""
    for where, name in _named(config):
        column = events.known.get(name)
        if column is None or column.role != "feedback" or name in config.feedback or where[:1] in (("carry",), ()):
            continue
        yield Fault(
            where,
            f"{name!r} is a label of the ingestion or decides one, so it is known only after the impression: "
            f"leave it out of {where[0]}, or carry it",
        )


def _keys(config: Config, events: Columns | None, features: Columns) -> Iterator[Fault]:
    rows = {name for _, name in _named(config)}
    for name in [name for name, column in features.known.items() if column.role == "key"]:
        said = f"service {config.feature_service!r} is keyed by {name!r}, and "
        if events is not None and name not in rows and (absent := events.absent(name)):
            yield Fault(("feature_service",), f"{said}the events have {absent}")
        elif name in config.feedback or (events and events.known.get(name, Column()).role == "feedback"):
            yield Fault(("feature_service",), f"{said}that is known only after the impression: choose another key")


def _features(config: Config, features: Columns) -> Iterator[Fault]:
    rows = {name for _, name in _named(config)}
    offered = {name for name, column in features.known.items() if column.role != "key"}
    for name in sorted(offered & rows):
        where = next(place for place, named in _named(config) if named == name)
        yield Fault(where, f"{name!r} is a feature of the service as well: leave it out here, or rename the feature")
    if not features.whole:
        return
    for position, name in enumerate(config.include):
        if name not in offered:
            yield Fault(("include", position), f"the service has no feature {name!r}{did_you_mean(name, offered)}")
    roles = {name for where, name in _named(config) if where[:1] not in (("feedback",), ("carry",), ("request",), ())}
    seen = {*_joined(config, features), *roles, *config.within}
    for position, name in enumerate(config.drop):
        if name not in seen:
            yield Fault(("drop", position), f"there is no feature {name!r} to drop{did_you_mean(name, seen)}")
    for name, encoding in config.encode.items():
        if name not in seen:
            yield Fault(("encode", name), f"there is no feature {name!r} to encode{did_you_mean(name, seen)}", "key")
        for key in ("shares", "timed_by"):
            other = getattr(encoding, key)
            if other is not None and other not in seen:
                yield Fault(("encode", name, key), f"there is no feature {other!r}{did_you_mean(other, seen)}")


def _joined(config: Config, features: Columns) -> dict[str, Column]:
    """Return the features of the service that the training set holds."""
    named = {*config.include, *config.encode}
    return {
        name: column
        for name, column in features.known.items()
        if column.role != "key" and (not column.auxiliary or name in named)
    }


COMPONENT = ComponentSpec(
    name="build_training_set",
    version="10",
    summary="Join features as of just before each impression, split and encode with the training split's encoder.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(gives=_gives, asks=_asks),
    entrypoint="components.data.build_training_set.component:run",
    sources=("features.joins.asof_store", "features.definitions"),
)
