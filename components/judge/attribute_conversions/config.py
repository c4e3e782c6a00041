"""What does `attribute_conversions` take and give? A model and held-out rows in, what each channel's events do out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from components.platform.artifacts import AttributionReport, OnnxModel, TrainingSet
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.errors import did_you_mean
from features.declaration import Name


class Config(ComponentConfig):
    """Which events, of which conversion, on which rows."""

    attribute: Name
    """Attribute of a timed history whose values are the channels, such as `recent_channels`."""
    channels: tuple[str, ...] = ()
    """Values that get a line each, the others one together; every value that training held when left out."""
    feedback: Name | None = None
    """Label that is the conversion; the deepest feedback of the data set when left out."""
    split: Literal["validation", "test"] = "test"
    """Rows to look at; training rows would flatter the model."""
    at_most_rows: int = Field(50_000, ge=100)
    """Rows that are scored, drawn at random of more; each channel costs a pass over those with its events."""
    min_conversions: int = Field(100, ge=10)
    """Fewer conversions among these rows are an error."""
    min_auc: float = Field(0.6, ge=0.5, lt=1)
    """Least AUC of the model on these rows: what has not learned who converts knows no reason for it."""
    bootstrap: int = Field(500, ge=0, le=100_000)
    """Resamples of users behind each interval; 0 leaves intervals out."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
    seed: int = 0
    """Of the drawn rows and the resampling."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """A model and the rows; the same ranker trained with another seed, to see whether it says the same."""

    model: OnnxModel
    dataset: TrainingSet
    again: OnnxModel | None = None


class Outputs(Ports):
    """Effects by channel, and a page."""

    report: AttributionReport


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    dataset = inputs.get("dataset")
    if dataset is None:
        return
    column = dataset.known.get(config.attribute)
    if absent := dataset.absent(config.attribute):
        yield Fault(("attribute",), f"the training set has {absent}")
    elif column is not None and (column.auxiliary or column.role == "feedback"):
        yield Fault(("attribute",), f"the ranker does not read {config.attribute!r}: name an attribute of its history")
    elif column is not None and column.dtype and not column.dtype.startswith("array<"):
        yield Fault(("attribute",), f"{config.attribute!r} is {column.dtype}: name an attribute of a history")
    labels = [name for name, one in dataset.known.items() if one.role == "feedback"]
    if config.feedback is not None and dataset.tasks and config.feedback not in labels:
        yield Fault(("feedback",), f"{config.feedback!r} is no feedback of it{did_you_mean(config.feedback, labels)}")


COMPONENT = ComponentSpec(
    name="attribute_conversions",
    version="1",
    summary="Say what the events of each channel do to a conversion's probability, by leaving them out of the answer.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.judge.attribute_conversions.component:run",
)
