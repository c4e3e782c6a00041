"""What does `attach_vectors` take and give? A training set and item vectors in, the training set with both out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from components.platform.artifacts import ItemVectors, TrainingSet
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Frozen, Name


class Config(ComponentConfig):
    """Which values the vectors are of, and how they are scaled."""

    field: Name | None = None
    """Field whose values have the vectors, with a vocabulary; the item of the training set when left out. Every field
    that shares its table has them too, such as a history of items."""
    at_least: float = Field(0.5, gt=0, le=1)
    """Least share of training rows whose item has a vector."""
    cold: bool = True
    """Whether items that have a vector and that training never held get a number of their own, so that their vector
    speaks for them; otherwise they are unknown values."""
    centre: bool = True
    """Whether the mean vector of the items that training held is taken away, which most models' vectors share."""
    scale: Literal["together", "each", "none"] = "together"
    """`together` divides all numbers by one, so that squares of a vector add up to 1 on average; `each` gives every
    number the same variance first; `none` keeps them."""
    project: Annotated[int, Field(ge=2, le=4096)] | None = None
    """Keep so many main directions of the vectors of items that training held (PCA); all numbers when left out."""


class Inputs(Ports):
    """A training set, and what is known of its items."""

    dataset: TrainingSet
    vectors: ItemVectors


class Outputs(Ports):
    """The same rows, encoded with the vectors' items."""

    training_set: TrainingSet


class Attached(Frozen):
    """What became of the vectors of one table."""

    vectors: str
    """Digest of the `ItemVectors`."""
    made_by: str
    width: int
    """Numbers of a value in the training set."""
    known: int
    """Values that training held and that have a vector."""
    without: int
    """Values that training held and that have none."""
    named_without: tuple[str, ...]
    """The first of those."""
    cold: int
    """Values that training never held, or rarer than `min_count`, and that have a vector."""
    covered: float
    """Share of training rows whose value has a vector."""


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    return {"training_set": replace(inputs["dataset"], vectors=True)} if "dataset" in inputs else {}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    dataset = inputs.get("dataset")
    if dataset is not None and config.field is not None and (absent := dataset.absent(config.field)):
        yield Fault(("field",), f"the training set has {absent}")


COMPONENT = ComponentSpec(
    name="attach_vectors",
    version="1",
    summary="Put the vectors of items beside the vocabulary of a training set, so that unseen items are known by them.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(gives=_gives, asks=_asks),
    entrypoint="components.data.attach_vectors.component:run",
)
