"""What does `train_ranker` take and give? A training set in, the best epoch's weights out."""

from __future__ import annotations

from components.platform.artifacts import Ranker, TrainingSet
from components.platform.contract import ComponentSpec, Ports
from components.rankers.config import RankerConfig
from components.train.train_ranker.knobs import Knobs
from features.declaration import Frozen

EPOCH_SECONDS = "epoch_seconds"
"""Annotation of the ranker: mean seconds that one pass over the training split took, evaluation left out."""
LEARN_UNKNOWN = {"gnolr": 0.05}
"""Share of ids shown as unknown by ranker; where vectors start near zero, one that says nothing is the better guess."""
PARAMETERS = "parameters"
"""Annotations `embedding_parameters` and `dense_parameters` of the ranker: how many numbers it learned."""


class Config(Knobs):
    """The ranker and how it is trained."""

    ranker: RankerConfig
    """Which ranker."""

    @property
    def shown_unknown(self) -> float:
        """Return the share of ids that a step sees as unknown."""
        return LEARN_UNKNOWN.get(self.ranker.name, 0.0) if self.unknown_share is None else self.unknown_share

    @classmethod
    def of(cls, ranker: RankerConfig, knobs: Knobs) -> Config:
        """Return how a ranker is trained by a stage that shares the knobs and has settings of its own."""
        return cls(ranker=ranker, **{name: getattr(knobs, name) for name in Knobs.model_fields})


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
    version="4",
    summary="Train a ranker with Ray Train and keep the epoch with the best validation AUC.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train.train_ranker.component:run",
    sources=("components.rankers",),
)
