"""What does `sample_negatives` take and give? A log of positives in, the same with drawn negatives and weights out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import Field

from components.platform.artifacts import EventsTable
from components.platform.columns import Column, Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name

WEIGHT = "sampling_weight"
"""Column of what a row stands for: 1 for a positive, for a negative the number of items that it was drawn from, on
average."""


class Config(ComponentConfig):
    """How negatives are drawn, and which columns are whose."""

    feedback: tuple[Name, ...] = Field(min_length=1)
    """Labels, shallow to deep; the first is 1 in every row of the log, and all are 0 in a negative."""
    item_columns: tuple[Name, ...]
    """Columns that belong to the item, such as its price: a negative has those of the newest row of its item up to that
    moment. All other columns are those of its positive: user, time, request, device."""
    outcomes: tuple[Name, ...] = ()
    """Columns that are known only after the positive, such as what was paid; a negative misses them."""
    user: Name = "user_id"
    """Column of the user id."""
    item: Name = "item_id"
    """Column of the item id."""
    per_positive: int = Field(4, ge=1, le=1000)
    """How often an item is drawn per positive; one that comes twice is one row with twice the weight."""
    alpha: float = Field(0.75, ge=0, le=2)
    """Items are drawn by the number of their positives in the window to this power: 0 draws all alike."""
    seed: int = 0
    """Seed of the draw; the order of the rows changes nothing."""


class Inputs(Ports):
    """A log of positives, such as purchases or plays."""

    events: EventsTable


class Outputs(Ports):
    """Positives and negatives."""

    events: EventsTable


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    events = inputs.get("events")
    if events is None:
        return {}
    return {"events": replace(events, known={**events.known, WEIGHT: Column("float64", "feedback")})}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    events = inputs.get("events")
    if events is None:
        return
    named: list[tuple[tuple[str | int, ...], str]] = [(("user",), config.user), (("item",), config.item)]
    for key in ("feedback", "item_columns", "outcomes"):
        named += [((key, place), name) for place, name in enumerate(getattr(config, key))]
    for where, name in named:
        if absent := events.absent(name):
            yield Fault(where, f"the events have {absent}")
    for name, column in events.known.items():
        if column.role == "feedback" and name not in (*config.feedback, *config.outcomes):
            yield Fault(
                ("feedback",),
                f"{name!r} tells of the positive what a negative does not have: name it in feedback, or in outcomes",
            )


COMPONENT = ComponentSpec(
    name="sample_negatives",
    version="1",
    summary="Draw items that were not chosen for logs of positives only, with weights that keep scores calibrated.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.ingest.sample_negatives.component:run",
    flow=Flow(gives=_gives, asks=_asks),
)
