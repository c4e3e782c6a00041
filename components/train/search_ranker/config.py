"""What does `search_ranker` take and give? A training set and a ranker in, what to do with each pair of fields out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

from pydantic import Field, model_validator

from components.platform.artifacts import Architecture, TrainingSet
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.rankers.config import RankerConfig
from components.train.searched import no_room_for_pairs
from features.declaration import Name


class Config(ComponentConfig):
    """Which pairs, how the network that tries them learns, and how sure a choice has to be."""

    ranker: RankerConfig
    """Which ranker the pairs are for: one of exchangeable parts, without an interaction."""
    among: tuple[Name, ...] | None = Field(None, min_length=2)
    """Categorical fields of which every pair is tried; left out, all of them."""
    most_pairs: int = Field(100, ge=1, le=2000)
    """Most pairs that are tried; of more fields the search asks which."""
    cross_rows: int = Field(16_384, ge=16, le=100_000_000)
    """Most rows of the table of a pair, in the search and in the ranker; of more combinations some share a row."""
    sure: float = Field(2.0, ge=0, le=100)
    """Standard errors by which a pair has to lower the log-loss of validation rows, to be more than nothing."""
    worth: float = Field(0.0005, ge=0, le=1)
    """Nats per row and feedback by which it has to lower it besides: what a table or a product costs."""
    at_most_rows: int = Field(100_000, ge=100)
    """Validation rows that choose, the first ones."""
    epochs: int = Field(8, ge=1, le=1000)
    """Most passes over the training rows."""
    patience: int = Field(2, ge=1)
    """Epochs that are no better on validation before the search stops learning."""
    batch_size: int = Field(256, ge=1, le=1_000_000)
    """Rows per step; each step tries other ways, so many small ones find more than few large ones."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size of Adam."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty on what trains."""
    seed: int = 0
    """Seed of initial weights, of the row order, and of what is tried where."""

    @model_validator(mode="after")
    def _has_room_for_pairs(self) -> Self:
        if fault := no_room_for_pairs(self.ranker):
            raise ValueError(fault)
        if self.among is not None and len({*self.among}) < len(self.among):
            raise ValueError("among names a field twice: leave one of them out")
        return self


class Inputs(Ports):
    """Encoded splits; the test split is not read."""

    dataset: TrainingSet


class Outputs(Ports):
    """What to do with each pair."""

    architecture: Architecture


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    """Yield that a field to try is no column of the training set."""
    dataset = inputs.get("dataset")
    for place, name in enumerate(config.among or ()):
        if dataset is not None and (message := dataset.absent(name)):
            yield Fault(("among", place), message)


COMPONENT = ComponentSpec(
    name="search_ranker",
    version="1",
    summary="Search which pairs of fields a ranker memorises, multiplies or leaves alone, judged on validation.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train.search_ranker.component:run",
    sources=("components.rankers", "components.train.train_ranker"),
    flow=Flow(asks=_asks),
)
