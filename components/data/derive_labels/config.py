"""What does `derive_labels` take and give? Impressions in, the same with labels that are made of their numbers out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from components.data.early_rows import EarlyRows
from components.platform.artifacts import DerivedLabels, EventsTable
from components.platform.columns import Column, Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.errors import did_you_mean
from features.declaration import Frozen, Name


class FairQuantile(ComponentConfig):
    """A label that asks whether an amount is large among rows of its own kind."""

    kind: Literal["fair_quantile"] = "fair_quantile"
    """1 where more than the share `above` of the rows of its group have a smaller amount."""
    amount: Name
    """Column of the amount that the label is made of, such as how long a video was watched; at least 0."""
    within: Name
    """Column whose size the label must not speak of, such as how long the video is: rows are compared with those that
    have about as much of it; at least 0."""
    groups: Annotated[int, Field(ge=2, le=1000)] = 20
    """Groups of `within`, about equally many rows in each."""
    above: float = Field(0.5, gt=0, lt=1)
    """Share of a group's rows that the amount must exceed, where a row with the same amount counts as a half."""
    min_group: Annotated[int, Field(ge=2)] = 200
    """A group of fewer rows goes to the next one."""
    beside: tuple[Name, ...] = ()
    """Labels of the table that the page shows beside this one, such as `long_view`."""


class Config(EarlyRows):
    """Which labels, and on which rows their groups are cut."""

    labels: dict[Name, FairQuantile] = Field(min_length=1)
    """Name of the new column → how it is made."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, label in self.labels.items():
            if label.amount == label.within:
                raise ValueError(f"label {name!r} compares {label.amount!r} with itself: name another column in within")
        return self

    @property
    def named(self) -> dict[tuple[str | int, ...], str]:
        """Columns that are read, by their place in the config."""
        keys: dict[tuple[str | int, ...], str] = {}
        for name, label in self.labels.items():
            keys |= {("labels", name, "amount"): label.amount, ("labels", name, "within"): label.within}
            keys |= {("labels", name, "beside", place): one for place, one in enumerate(label.beside)}
        return keys


class Inputs(Ports):
    """Impressions."""

    table: EventsTable


class Outputs(Ports):
    """The same rows with the labels, and how they were made."""

    events: EventsTable
    labels: DerivedLabels


class Group(Frozen):
    """Rows that are compared with each other."""

    low: float | None
    """Least `within` of the group; None of the first."""
    high: float | None
    """First `within` beyond it; None of the last."""
    cut: float
    """Amount that decides."""
    inclusive: bool
    """Whether a row with just this amount has the label; those with more have it anyway."""
    fitted: int
    """Rows that it was cut on."""
    later: int
    """Other rows."""
    rates: dict[str, tuple[float | None, float | None]]
    """By label, the new one first: its share of 1 among the rows that it was cut on, and among the others."""


class Correlation(Frozen):
    """How much a quantity speaks of `within`; each on the rows that groups were cut on, and on the others."""

    of: str
    linear: tuple[float | None, float | None]
    """Pearson's correlation."""
    rank: tuple[float | None, float | None]
    """Spearman's."""


class Period(Frozen):
    """Some days of rows."""

    start: AwareDatetime
    rows: int
    rate: float
    """Share of them with the label."""
    fitted: bool
    """Whether groups were cut on any of them."""


class MadeLabel(Frozen):
    """One label."""

    name: Name
    rule: FairQuantile
    groups: tuple[Group, ...]
    correlations: tuple[Correlation, ...]
    """Of the amount, of the amount per `within`, of the labels beside and of the new one, with `within`."""
    days: int
    """Length of a period."""
    periods: tuple[Period, ...]


class MadeLabels(Frozen):
    """All labels of a stage."""

    known_until: AwareDatetime
    """Time of the last row that groups were cut on."""
    fitted: int
    """Rows that they were cut on."""
    rows: int
    labels: tuple[MadeLabel, ...]


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    if "table" not in inputs:
        return {}
    given = inputs["table"]
    made = {name: Column("int64", "feedback") for name in config.labels}
    return {"events": replace(given, known={**given.known, **made})}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    if "table" not in inputs:
        return
    table = inputs["table"]
    for where, name in config.named.items():
        if absent := table.absent(name):
            yield Fault(where, f"the table has {absent}")
        elif where[2] != "beside" and name in table.known and not _may_be_a_number(table.known[name].dtype):
            yield Fault(where, f"{name!r} is {table.known[name].dtype}: name a column of numbers")
        elif where[2] == "beside" and name in table.known and table.known[name].role != "feedback":
            labels = [one for one, column in table.known.items() if column.role == "feedback"]
            yield Fault(where, f"{name!r} is no label{did_you_mean(name, labels)}")
    for name in config.labels:
        if name in table.known:
            yield Fault(("labels", name), f"the table has a column {name!r} already: choose another name", "key")


def _may_be_a_number(dtype: str) -> bool:
    return not dtype or dtype.removeprefix("u").startswith(("int", "float"))


COMPONENT = ComponentSpec(
    name="derive_labels",
    version="1",
    summary="Make a label of an amount that speaks of no other number, such as watch time fair to a video's duration.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(gives=_gives, asks=_asks),
    entrypoint="components.data.derive_labels.component:run",
)
