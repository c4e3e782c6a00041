"""What does `audit_delivery` take and give? Impressions in, who was shown each ad against who might have been out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import DeliveryReport, EventsTable, TrainingSet
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name

MOST_GROUPS = 50
"""Groups that a table can be read by."""


class Config(ComponentConfig):
    """Which ads, which people in which groups, and how far delivery may be from those who are eligible."""

    ad: Name
    """Column of the ad, or of whatever is delivered, such as the item or the campaign."""
    group: Name
    """Column of the group that a person belongs to, such as an age band; one value per person."""
    user: Name = "user_id"
    """Column of the person."""
    eligible: Literal["population"] | dict[str, Annotated[float, Field(gt=0, lt=1)]] = "population"
    """Who might have been shown an ad: the people of the table, or declared shares by group, which add up to 1."""
    among: Name | None = None
    """Column such as the country: an ad's eligible people are those with a row of a value that the ad was shown in."""
    unit: Literal["people", "impressions"] = "people"
    """What is counted: everybody whom an ad reached once, or each showing. A hundred showings to one person make
    impressions look even where people are not."""
    at_most: float = Field(0.1, gt=0, lt=1)
    """Variance that is tolerated: half the sum of the differences of shares, between 0 and 1."""
    min_impressions: int = Field(300, ge=1)
    """Ads with fewer impressions are counted and not judged."""
    level: float = Field(0.95, ge=0.5, lt=1)
    """Share of fair deliveries whose variance stays below the chance level that is printed beside each ad."""
    bootstrap: int = Field(500, ge=0, le=100_000)
    """Resamples of an ad's people behind each interval; 0 leaves intervals out."""
    seed: int = 0
    """Of the resampling, and of chance levels that are drawn."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len({self.ad, self.group, self.user}) < 3:
            raise ValueError("ad, group and user are three columns: name each once")
        if isinstance(self.eligible, dict):
            if abs(sum(self.eligible.values()) - 1) > 1e-6:
                raise ValueError(f"eligible shares add up to {sum(self.eligible.values()):g}, must be 1")
            if self.among is not None:
                raise ValueError("among takes eligible people from the table, and eligible declares their shares")
        return self

    @property
    def named(self) -> dict[str, str]:
        """Columns that are read, by key."""
        keys = {"ad": self.ad, "group": self.group, "user": self.user}
        return keys | ({"among": self.among} if self.among else {})


class Inputs(Ports):
    """Impressions; and the rows that a ranker of them reads, which may not hold the group."""

    table: EventsTable
    dataset: TrainingSet | None = None


class Outputs(Ports):
    """Variance by ad, and a page."""

    report: DeliveryReport


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    table, dataset = inputs.get("table"), inputs.get("dataset")
    for key, name in config.named.items() if table is not None else ():
        if table is not None and (absent := table.absent(name)):
            yield Fault((key,), f"the table has {absent}")
    column = dataset.known.get(config.group) if dataset is not None else None
    if column is not None and not column.auxiliary:
        yield Fault(("group",), read_by_the_ranker(config.group))


def read_by_the_ranker(group: str) -> str:
    """Return the sentence that says why a group cannot be audited."""
    return (
        f"the ranker reads {group!r}, and a group that an audit asks about may decide nothing: drop it in "
        "build_training_set, or name it in its group"
    )


COMPONENT = ComponentSpec(
    name="audit_delivery",
    version="1",
    summary="Compare who was shown each ad with who might have been, by group, against what chance alone would do.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.judge.audit_delivery.component:run",
)
