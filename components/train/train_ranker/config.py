"""What does `train_ranker` take and give? A training set in, the best epoch's weights out.

`Knobs` is what every stage that trains lets a pipeline choose, `Learning` what of it may be tuned.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import Architecture, Ranker, TrainingSet, Tuned
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.rankers.config import RankerConfig
from features.declaration import Frozen

EPOCH_SECONDS = "epoch_seconds"
"""Annotation of the ranker: mean seconds that one pass over the training split took, evaluation left out."""
LEARN_UNKNOWN = {"gnolr": 0.05}
"""Share of ids shown as unknown by ranker; where vectors start near zero, one that says nothing is the better guess."""
PARAMETERS = "parameters"
"""Annotations `embedding_parameters` and `dense_parameters` of the ranker: how many numbers it learned."""


class Tables(ComponentConfig):
    """How embedding tables learn."""

    optimiser: Literal["rowwise_adam", "rowwise_adagrad", "adam"] = "rowwise_adam"
    """`rowwise_*` change the rows that a step read, whatever the table's size: `rowwise_adam` learns as Adam does,
    `rowwise_adagrad` keeps one number per row and nothing per weight; `adam` changes every row at every step."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size of `rowwise_*`; left out, the stage's `learning_rate`. `rowwise_adagrad` wants ten times as much."""
    mini_batch_aware: float = Field(0.0, ge=0, le=10_000, exclude_if=lambda penalty: penalty == 0)
    """Penalty of a row that a step read, divided by how many training rows hold its value, so that rare values are
    drawn to zero and frequent ones hardly; for `rowwise_*`. 0 is none."""

    sharded: bool = Field(False, exclude_if=lambda sharded: not sharded)
    """Whether each worker holds a share of the rows, and of what the optimiser knows of them, instead of all; for
    `rowwise_*`. Take it where a table is larger than a worker's memory: every step waits for rows to travel."""

    @model_validator(mode="after")
    def _rate_is_read(self) -> Self:
        if self.optimiser == "adam" and self.sharded:
            raise ValueError("tables with optimiser 'adam' are not sharded: choose a rowwise one, or leave sharded out")
        if self.optimiser == "adam" and self.mini_batch_aware:
            raise ValueError("tables with optimiser 'adam' know no mini_batch_aware: choose a rowwise one")
        if self.optimiser == "adam" and self.learning_rate is not None:
            raise ValueError("tables with optimiser 'adam' take the stage's learning_rate: leave theirs out")
        return self


class Checkpoints(ComponentConfig):
    """When training saves where it is, so that a run that was interrupted goes on from there."""

    steps: int = Field(2000, ge=1)
    """Steps between checkpoints within an epoch; each epoch ends with one in any case."""
    keep: int = Field(2, ge=1, le=100)
    """Checkpoints kept while training; an older one serves when the newest is damaged."""


class Elastic(ComponentConfig):
    """As many workers as there is room for: when training starts or starts again, on a Ray cluster at any time."""

    min: int = Field(ge=1, le=512)
    """Fewest workers to train with."""
    max: int = Field(ge=1, le=512)
    """Most workers to train with."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"workers: min {self.min} is above max {self.max}: swap them")
        return self


class Learning(ComponentConfig):
    """Batches, optimisers and checkpoints: how a ranker learns, however many workers there are."""

    epochs: int = Field(3, ge=1, le=1000)
    """Most passes over the training rows."""
    patience: int = Field(2, ge=1)
    """Epochs that are no better on validation, by what the training set says to `judge_by`, before training stops."""
    batch_size: int = Field(1024, ge=1, le=1_000_000)
    """Rows per step over all workers together."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size of Adam, which trains everything but the tables."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty on what trains; in tables, on the rows that a step read."""
    tables: Tables = Tables()
    """How embedding tables learn."""
    unknown_share: float | None = Field(None, ge=0, le=0.5)
    """Share of ids that a step sees as unknown, others at each step, so that the answer to ids that it never saw is
    learned from them; at 0 an unknown id counts as nothing. Left out, 0.05 for `gnolr`, whose vectors start far from
    zero, and 0 for every other ranker."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Numbers that the towers multiply; tables, losses and sums stay float32. `bfloat16` is some three times as fast
    on processors with units for it (AMX, tensor cores)."""
    shuffle_rows: int = Field(4_194_304, ge=1)
    """Rows in memory at once: a training split with more is shuffled block by block and in a window of this size."""
    checkpoints: Checkpoints = Checkpoints()
    """When training saves where it is."""
    seed: int = 0
    """Seed of initial weights and of the row order."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where workers compute: `cuda` fails without one GPU per worker, `auto` uses GPUs when there are enough."""


class Knobs(Learning):
    """How a ranker learns, and by how many workers."""

    workers: Annotated[int, Field(ge=1, le=512)] | Elastic = 1
    """Ray Train workers, or `{min, max}` for as many as there is room for; each reads its share of every batch."""

    @property
    def least_workers(self) -> int:
        """Workers without which training does not start."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

    def workers_for(self, room: float) -> int:
        """Return how many workers to start where there is room for `room`."""
        return (
            self.workers if isinstance(self.workers, int) else max(self.workers.min, min(self.workers.max, int(room)))
        )


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
    """Encoded splits, and what searches of knobs and of pairs found where the stage is to train with that."""

    dataset: TrainingSet
    tuned: Tuned | None = None
    architecture: Architecture | None = None


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
    version="5",
    summary="Train a ranker with Ray Train and keep the epoch that is best on validation, by AUC or what you name.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train.train_ranker.component:run",
    sources=("components.rankers",),
)
