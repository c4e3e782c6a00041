"""What does `evaluate_ranker` take and give? A graph and held-out rows in, metrics with intervals out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from components.platform.artifacts import EvaluationReport, OnnxModel, TrainingSet
from components.platform.columns import Columns, Fault, Flow, absent_weights
from components.platform.contract import ComponentConfig, ComponentSpec, Ports


class Config(ComponentConfig):
    """Which rows, how many resamples, which provider."""

    split: Literal["validation", "test"] = "test"
    """Rows to score."""
    bootstrap: int = Field(200, ge=0, le=100_000)
    """Resamples of users behind each interval; 0 leaves intervals out."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
    bins: int = Field(10, ge=2, le=100)
    """Equal-mass bins of the calibration error."""
    top: int = Field(10, ge=1, le=1000)
    """Places that NDCG, hit rate and recall look at, where the training set says what a request is."""
    weighted: bool = False
    """Whether rows count by the weights that the training set gives them, in the tasks of the feedback that has some;
    a request counts with the mean of its positive rows."""
    seed: int = 0
    """Seed of the resampling."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """The graph and the rows."""

    model: OnnxModel
    dataset: TrainingSet


class Outputs(Ports):
    """Figures, plots and a page."""

    report: EvaluationReport


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    if config.weighted:
        yield from absent_weights(inputs.get("dataset"), "weighted")


COMPONENT = ComponentSpec(
    name="evaluate_ranker",
    version="5",
    summary="Score the test split through the ONNX file: ranking and calibration per task and domain, with intervals.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.judge.evaluate_ranker.component:run",
)
