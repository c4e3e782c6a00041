"""What does `fit_item_pairs` take and give? A log of baskets in, lists of what goes with each item out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import EventsTable, ItemPairs
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name

Publish = Literal["vectors", "count", "lift"]


class Config(ComponentConfig):
    """What a basket is, how its items are learned, and what is published."""

    basket: Name
    """Column whose equal values are one basket, such as an order or a session."""
    item: Name = "item_id"
    """Column of what lies in it: an id, or something coarser such as a category."""
    log: Name | None = None
    """Further log of the events table that holds the baskets; its events when left out."""
    named: Name | None = None
    """Column with a name of the item, which the page shows."""
    publish: Publish = "vectors"
    """By what the lists are made: vectors, how often two items lay in one basket, or lift. All three are judged."""
    best: int = Field(50, ge=1, le=1000)
    """Items in a list."""
    at: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field((10, 50), min_length=1)
    """Lengths of list that are judged."""
    test_share: float = Field(0.1, gt=0, le=0.5)
    """Share of the baskets, the newest, that lists are judged by and nothing is learned from."""
    min_baskets: int = Field(20, ge=2)
    """Items in fewer baskets have no list and are in none."""
    together: int = Field(3, ge=1)
    """How often two items must lie in one basket for lift to list them: lift alone lists what met by chance, once."""
    at_most: int = Field(100, ge=2, le=1000)
    """Of a longer basket so many items count, drawn at random."""
    contexts: int = Field(10, ge=1, le=100)
    """Other items of the basket that an item is shown with per epoch, drawn anew each time; all where fewer."""
    width: int = Field(64, ge=1, le=1024)
    """Numbers of a vector."""
    negatives: int = Field(10, ge=1, le=1000)
    """What a pair counts against: so many items that are drawn."""
    power: float = Field(0.75, ge=-2, le=2)
    """Items are drawn by the number of their baskets to this power; 0 draws all alike, below 0 rare ones more often."""
    popularity: float = Field(0.0, ge=0, le=2)
    """How much the logarithm of an item's chance to be drawn adds to its score; 1 gives back to frequent items what
    negatives took, so that lists tell what comes next and less what belongs together."""
    subsample: float | None = Field(None, gt=0, le=1)
    """Items of a larger share of all lines are left out of baskets at random, with chance 1 − √(subsample / share)."""
    epochs: int = Field(3, ge=1, le=1000)
    """Passes over the baskets."""
    batch_size: int = Field(4096, ge=1, le=1_000_000)
    """Pairs per step."""
    learning_rate: float = Field(0.01, gt=0, le=1)
    """Of the first step; it falls to 0."""
    bootstrap: int = Field(200, ge=0, le=100_000)
    """Resamples of baskets behind each interval; 0 leaves intervals out."""
    seed: int = 0
    """Seed of the start, of every draw and of the resampling."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at is {list(self.at)}, must rise: write {sorted(set(self.at))}")
        if self.item == self.basket:
            raise ValueError(f"basket and item are both {self.item!r}: name the column of what lies in a basket")
        return self


class Inputs(Ports):
    """A log with the basket of each line."""

    table: EventsTable


class Outputs(Ports):
    """Lists, the vectors behind them and how good they are."""

    pairs: ItemPairs


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    columns = inputs.get("table")
    where = "the events"
    if columns is not None and config.log is not None:
        if columns.logs is None:
            return
        if config.log not in columns.logs:
            yield Fault(("log",), f"the events table has no log {config.log!r}")
            return
        columns, where = columns.logs[config.log], f"log {config.log!r}"
    for key in ("basket", "item", "named"):
        name = getattr(config, key)
        if columns is not None and name is not None and (absent := columns.absent(name)):
            yield Fault((key,), f"{where}: {absent}")


COMPONENT = ComponentSpec(
    name="fit_item_pairs",
    version="1",
    summary="Learn from baskets what goes with each item and what stands for it, judged beside counts and lift.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.train.fit_item_pairs.component:run",
)
