"""What does `fit_lightgbm` take and give? A training set in, a report about boosted trees on its rows out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from components.platform.artifacts import EvaluationReport, TrainingSet
from components.platform.columns import Columns, Fault, Flow, absent_weights
from components.platform.contract import ComponentConfig, ComponentSpec, Ports


class Config(ComponentConfig):
    """Sizes of the trees and when to stop; the defaults are those of the first published measurement."""

    leaves: int = Field(63, ge=2, le=4096)
    """Leaves of each tree."""
    learning_rate: float = Field(0.05, gt=0, le=1)
    """Weight of each tree."""
    min_rows_in_leaf: int = Field(50, ge=1)
    """Training rows that a leaf needs."""
    feature_fraction: float = Field(0.8, gt=0, le=1)
    """Share of columns that each tree sees."""
    bagging_fraction: float = Field(0.8, gt=0, le=1)
    """Share of rows that each tree sees, drawn anew for every tree."""
    l2: float = Field(0.0, ge=0)
    """L2 penalty on the leaves."""
    rounds: int = Field(2000, ge=1, le=100_000)
    """Most trees per task."""
    patience: int = Field(50, ge=1)
    """Trees without a lower validation log-loss before a task stops."""
    threads: int = Field(1, ge=1, le=512)
    """Threads; they wait busily, so that more than there are idle cores are far slower."""
    bootstrap: int = Field(200, ge=0, le=100_000)
    """Resamples of users behind each interval of the report; 0 leaves intervals out."""
    weighted: bool = False
    """Whether rows count in the report by the weights that the training set gives them; in the fit they always do."""
    seed: int = Field(0, ge=0)
    """Seed of the rows and the columns that trees see."""


class Inputs(Ports):
    """Raw splits."""

    dataset: TrainingSet


class Outputs(Ports):
    """Figures, plots and a page, as an evaluated ranker has them."""

    report: EvaluationReport


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    if config.weighted:
        yield from absent_weights(inputs.get("dataset"), "weighted")


LEAVES = "leaves"
"""Annotation of the report: leaves of all trees of all tasks."""
FIT_SECONDS = "fit_seconds"
"""Annotation of the report: seconds that the fits of all tasks took together."""
VALIDATION = "validation/{task}/{metric}"
"""Annotation of the report: validation AUC of a task, and what rankers are judged by."""

COMPONENT = ComponentSpec(
    name="fit_lightgbm",
    version="4",
    summary="Fit boosted trees per task on the rows of a training set and judge them as a ranker is judged.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.judge.fit_lightgbm.component:run",
)
