"""What does `build_training_set` take and give? Events and features in, three leak-free splits out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from components.data.build_training_set.columns import FLOW
from components.platform.artifacts import EventsTable, FeatureTables, TrainingSet
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.paths import DefinitionsFile
from features.declaration import Declaration, FieldEncoding, Frozen, Name, Window

ROW = "row_id"
"""Column of a training set's raw rows: their number, in the order of time."""


class Split(ComponentConfig):
    """How rows are divided."""

    by: Literal["time", "random"] = "time"
    """`time` puts the newest rows into test, whole timestamps together; `random` shuffles by `seed`."""
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
    context: tuple[Name, ...] = ()
    """More columns of the impression known at request time, used as features (`event_timestamp` too)."""
    carry: tuple[Name, ...] = ()
    """Columns of the impression that travel with the raw rows and are no features, such as a propensity."""
    drop: tuple[Name, ...] = ()
    """Features of the service, or ids, that the ranker must not see."""
    include: tuple[Name, ...] = ()
    """Auxiliary features of the service to join as well, such as the times of a history (`recent_times`)."""
    split: Split = Split()
    """How rows are divided."""
    encode: dict[Name, FieldEncoding] = Field(default_factory=dict)
    """Encodings that replace the default of a feature's dtype."""

    @model_validator(mode="after")
    def _own_name(self) -> Self:
        for key in ("user", "item", "domain", "context", "carry", "feedback"):
            value = getattr(self, key)
            if ROW in (value if isinstance(value, tuple) else (value,)):
                raise ValueError(
                    f"{key} names {ROW!r}, which is the number of a row in a training set: publish the column under "
                    "another name"
                )
        return self

    def declaration(self) -> Declaration:
        """Return the roles of the columns."""
        return Declaration(
            feedback=self.feedback, funnel=self.funnel, user=self.user, item=self.item, domain=self.domain
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


COMPONENT = ComponentSpec(
    name="build_training_set",
    version="4",
    summary="Join features as of just before each impression, split and encode with the training split's encoder.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=FLOW,
    entrypoint="components.data.build_training_set.component:run",
    sources=("features.joins.asof_store", "features.definitions"),
)
