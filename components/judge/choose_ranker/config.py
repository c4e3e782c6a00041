"""What does `choose_ranker` take and give? Several exported rankers in, the best on the same validation rows out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.platform.artifacts import OnnxModel, RankerChoice, TrainingSet
from components.platform.contract import ComponentConfig, ComponentSpec, Ports


class Config(ComponentConfig):
    """How sure the difference of two candidates is said to be, and which provider scores the rows."""

    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals of the differences."""
    resamples: int = Field(200, ge=50, le=100_000)
    """Resamples of users behind each interval, at least; more are drawn until its bounds are stable."""
    most_resamples: int = Field(5_000, ge=50, le=1_000_000)
    """Resamples that are never exceeded."""
    top: int = Field(10, ge=1, le=1000)
    """Places that NDCG, hit rate and recall look at, where the training set judges by one of them."""
    seed: int = 0
    """Seed of the resampling."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """The candidates and the rows."""

    models: dict[str, OnnxModel]
    dataset: TrainingSet


class Outputs(Ports):
    """The files of the best candidate, and how all of them did."""

    onnx_model: OnnxModel
    choice: RankerChoice


COMPONENT = ComponentSpec(
    name="choose_ranker",
    version="1",
    summary="Judge several exported rankers on the same validation rows and pass the best one on.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.judge.choose_ranker.component:run",
)
