"""What does `train_ranker` take and give? A training set in, the best epoch's weights out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.artifacts import Ranker, TrainingSet
from components.contract import ComponentConfig, ComponentSpec, Ports
from components.rankers.config import RankerConfig
from features.declaration import Frozen

EPOCH_SECONDS = "epoch_seconds"
"""Annotation of the ranker: mean seconds that one pass over the training split took, evaluation left out."""
PARAMETERS = "parameters"
"""Annotations `embedding_parameters` and `dense_parameters` of the ranker: how many numbers it learned."""


class Config(ComponentConfig):
    """The ranker and how it is trained."""

    ranker: RankerConfig
    """Which ranker."""
    epochs: int = Field(3, ge=1, le=1000)
    """Most passes over the training split."""
    patience: int = Field(2, ge=1)
    """Epochs without a better mean validation AUC before training stops."""
    batch_size: int = Field(1024, ge=1)
    """Rows per step over all workers together."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size of Adam."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty on the weights."""
    workers: int = Field(1, ge=1, le=512)
    """Ray Train workers; each reads its shard of every batch."""
    seed: int = 0
    """Seed of initial weights and of the row order."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where workers compute: `cuda` fails without one GPU per worker, `auto` uses GPUs when there are enough."""


class Inputs(Ports):
    """Encoded splits."""

    dataset: TrainingSet


class Outputs(Ports):
    """The best epoch."""

    ranker: Ranker


class EpochReport(Frozen):
    """One epoch in figures; metrics are named ``<split>/<task>/<metric>``, e.g. ``validation/like/auc``.

    A ranker that routes rows adds ``routing/<name>``, e.g. ``routing/usage_0``.

    Wall-clock time is not here, so that the same weights make the same artifact; MLflow has it.
    """

    epoch: int
    train_loss: float
    metrics: dict[str, float]
    best: bool


COMPONENT = ComponentSpec(
    name="train_ranker",
    version="1",
    summary="Train a ranker with Ray Train and keep the epoch with the best validation AUC.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train_ranker.component:run",
    sources=("components.rankers", "components.training_set", "components.process_tree", "registry.metrics"),
)
