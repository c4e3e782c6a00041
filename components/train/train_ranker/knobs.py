"""How is a ranker trained? What `train_ranker` and `adapt_ranker` both let a pipeline choose."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.platform.contract import ComponentConfig


class Tables(ComponentConfig):
    """How embedding tables learn."""

    optimiser: Literal["rowwise_adam", "rowwise_adagrad", "adam"] = "rowwise_adam"
    """`rowwise_*` change the rows that a step read, whatever the table's size: `rowwise_adam` learns as Adam does,
    `rowwise_adagrad` keeps one number per row and nothing per weight; `adam` changes every row at every step."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size of `rowwise_*`; left out, the stage's `learning_rate`. `rowwise_adagrad` wants ten times as much."""

    @model_validator(mode="after")
    def _rate_is_read(self) -> Self:
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


class Knobs(ComponentConfig):
    """Batches, optimisers, workers and checkpoints."""

    epochs: int = Field(3, ge=1, le=1000)
    """Most passes over the training rows."""
    patience: int = Field(2, ge=1)
    """Epochs without a better mean validation AUC before training stops."""
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
    workers: Annotated[int, Field(ge=1, le=512)] | Elastic = 1
    """Ray Train workers, or `{min, max}` for as many as there is room for; each reads its share of every batch."""
    checkpoints: Checkpoints = Checkpoints()
    """When training saves where it is."""
    seed: int = 0
    """Seed of initial weights and of the row order."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where workers compute: `cuda` fails without one GPU per worker, `auto` uses GPUs when there are enough."""

    @property
    def least_workers(self) -> int:
        """Workers without which training does not start."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

    def workers_for(self, room: float) -> int:
        """Return how many workers to start where there is room for `room`."""
        return (
            self.workers if isinstance(self.workers, int) else max(self.workers.min, min(self.workers.max, int(room)))
        )
