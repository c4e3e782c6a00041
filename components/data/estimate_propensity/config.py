"""What does `estimate_propensity` take and give? Impressions in, the same with the chance that each was seen out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from components.data.early_rows import EarlyRows
from components.platform.artifacts import EventsTable
from components.platform.columns import Column, Columns, Fault, Flow
from components.platform.contract import ComponentSpec, Ports
from features.declaration import Name

NEEDS = {"shown_share": ("request",), "position": ("position", "feedback"), "popularity": ("feedback",)}
"""By method, the columns that it is estimated from beside `item` and `segment`."""


class Config(EarlyRows):
    """From what, on which rows, and into which column."""

    learned: ClassVar[str] = "rows are estimated from"
    method: Literal["shown_share", "position", "popularity"]
    """`shown_share`: the share of a segment's requests that showed the item. `position`: the chance that a place is
    looked at, 1 for the best, by the position-based click model. `popularity`: (positives / most positives)^power of
    the item, which takes what people like for what they are shown: where a log knows neither requests nor places."""
    into: Name = "propensity"
    """Name of the new column, above 0 and at most 1."""
    item: Name = "item_id"
    """Column of the item."""
    segment: tuple[Name, ...] = ()
    """Columns whose values have estimates of their own, such as the page."""
    request: Name | None = None
    """Column that is equal for what was shown together; `shown_share` counts its values."""
    position: Name | None = None
    """Column of the place, a whole number, for `position`."""
    feedback: Name | None = None
    """Label of 0 and 1, for `position` and `popularity`."""
    power: float = Field(0.5, gt=0, le=2)
    """Of `popularity`."""
    floor: float = Field(0.01, gt=0, le=1)
    """Least propensity, and that of an item which no fitted row shows."""
    fit_before: AwareDatetime | None = None
    """Rows from this moment on are not estimated from: the `validation_from` of the training set's split."""
    fit_share: float = Field(0.8, gt=0, le=1)
    """Share of rows, the earliest, to estimate from where `fit_before` is left out: the `train` of the split."""

    @model_validator(mode="after")
    def _what_the_method_reads(self) -> Self:
        for key in ("request", "position", "feedback"):
            if (getattr(self, key) is not None) != (key in NEEDS[self.method]):
                verb = "needs" if key in NEEDS[self.method] else "does not read"
                raise ValueError(f"method {self.method!r} {verb} {key}")
        return self

    @property
    def named(self) -> dict[tuple[str | int, ...], str]:
        """Columns that are read, by their place in the config."""
        keys = {("item",): self.item} | {(key,): str(getattr(self, key)) for key in NEEDS[self.method]}
        return keys | {("segment", place): name for place, name in enumerate(self.segment)}


class Inputs(Ports):
    """Impressions."""

    table: EventsTable


class Outputs(Ports):
    """The same rows with one column more."""

    table: EventsTable


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    if "table" not in inputs:
        return {}
    given = inputs["table"]
    return {"table": replace(given, known={**given.known, config.into: Column("float64")})}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    if "table" not in inputs:
        return
    for where, name in config.named.items():
        if absent := inputs["table"].absent(name):
            yield Fault(where, f"the table has {absent}")
    if config.into in inputs["table"].known:
        yield Fault(("into",), f"the table has a column {config.into!r} already: choose another name")


COMPONENT = ComponentSpec(
    name="estimate_propensity",
    version="1",
    summary="Estimate from the training rows how likely each impression was to be seen, for weights by its inverse.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(gives=_gives, asks=_asks),
    entrypoint="components.data.estimate_propensity.component:run",
)
