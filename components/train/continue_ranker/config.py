"""What does `continue_ranker` take and give? Yesterday's ranker and today's rows in, today's ranker out."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import Predecessor, Ranker, TrainingSet
from components.platform.contract import ComponentSpec, Ports
from components.rankers.config import ComposedConfig, RankerConfig
from components.train.train_ranker.config import Knobs
from features.declaration import Frozen, Name

CONTINUED = "continued.json"
LAST_SEEN = "last_seen.safetensors"
"""By table, int32 ``[values]``: the UTC day, counted from 1970-01-01, on which each value of the vocabulary was last
among the training rows."""


class Config(Knobs):
    """The ranker, how it is trained, and what becomes of the rows of its tables."""

    ranker: RankerConfig
    """Which ranker; the same as the predecessor's."""
    forget_after_days: int | None = Field(None, ge=1, le=36_500)
    """Days that a value keeps its row without being in the training rows; left out, rows are kept for good. Values in
    the training window's own vocabulary always have one."""
    carry_optimiser: bool = True
    """Whether the optimiser's values of rows and weights go on too; they make the ranker's files two to three times as
    large."""
    otherwise: Literal["refuse", "fresh"] = "refuse"
    """What to do with a predecessor of other features or of another architecture: fail, or start from nothing and say
    why. A model without a champion starts from nothing in any case."""

    @model_validator(mode="after")
    def _has_rows_by_value(self) -> Self:
        if self.tables.sharded:
            raise ValueError(
                "every worker holds the whole ranker that is continued: leave tables.sharded out, or use train_ranker"
            )
        if isinstance(self.ranker, ComposedConfig) and self.ranker.embedding == "hashed":
            raise ValueError("a hashed embedding has no row per value to carry on: use embedding 'vocabulary'")
        if getattr(self.ranker, "memorise", ()):
            raise ValueError(
                "a memorised pair has its rows by the numbers of two values, which change with the vocabulary: leave "
                "memorise out, or use train_ranker"
            )
        if self.ranker.code:
            raise ValueError(
                f"ranker {self.ranker.name!r} has code of another package, and where it keeps a value's row is not "
                "known: use train_ranker"
            )
        return self


class Inputs(Ports):
    """Where training starts, and encoded splits."""

    before: Predecessor
    dataset: TrainingSet


class Outputs(Ports):
    """The best epoch, and the same rows with its vocabularies."""

    ranker: Ranker
    training_set: TrainingSet


class TableGrowth(Frozen):
    """What became of the rows of one embedding table."""

    table: Name
    """The feature that owns it."""
    rows: int
    """Values with a row of their own now."""
    carried: int
    """Values that had one in the predecessor."""
    new: int
    """Values that had none."""
    expired: int
    """Values of the predecessor that lost theirs."""
    not_admitted: int
    """Values in the training rows that are too rare for one."""


class Continuation(Frozen):
    """Where training started."""

    ranker_digest: str
    """Digest of the predecessor's ranker; empty when training started from nothing."""
    reason: str
    """Why it did; empty when it did not."""
    optimiser: str
    """Why the optimiser's values were not carried on; empty when they were, or nothing was."""
    tables: tuple[TableGrowth, ...]
    """One entry per vocabulary, sorted."""


COMPONENT = ComponentSpec(
    name="continue_ranker",
    version="6",
    summary="Train on from the champion: its rows by id, its weights and optimiser values, new rows for new ids.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train.continue_ranker.component:run",
    sources=("components.rankers",),
)
