"""What may a comparison file say? The strict shape of `pipelines/comparisons/*.yaml`, before anything is looked up."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from features.declaration import Name
from pipelines.language.spec import SpecModel

BASELINES = {"lightgbm": "fit_lightgbm"}
"""Word after `baseline:` → component that fits and judges it."""


class Reference(SpecModel):
    """A published number, printed under the table of its task."""

    task: Name
    """Task as the ranker names it."""
    metric: Literal["auc", "gauc", "log_loss"]
    """What was measured."""
    value: float
    """The number."""
    source: str = Field(min_length=10)
    """Who published it, on which rows and labels."""


class CandidateSpec(SpecModel):
    """One setting to try, as what it changes in its entry."""

    ranker: dict[str, Any] = Field(default_factory=dict)
    """Keys of the `ranker:` block."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Other keys of the config."""


class EntrySpec(SpecModel):
    """One row of the table."""

    ranker: dict[str, Any] | None = None
    """The `ranker:` block of `train_ranker`."""
    baseline: Literal["lightgbm"] | None = None
    """A peer in place of a ranker."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Config of this entry, over the common `with:` of rankers."""
    grid: tuple[CandidateSpec, ...] = ()
    """Settings to try on the first seed; the one with the best mean validation AUC over the feedback is taken."""
    note: str = ""
    """What a reader should know about this row."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ranker is None) == (self.baseline is None):
            raise ValueError(
                "an entry is either a ranker or a baseline: write ranker: {name: ...} or baseline: lightgbm"
            )
        return self


class ComparisonSpec(SpecModel):
    """A whole comparison file."""

    name: Name
    """Name of the comparison and its file."""
    title: str = Field(min_length=1)
    """Heading in the results."""
    labels: str = Field(min_length=1)
    """What makes a label 1, in words."""
    pipeline: Name
    """Pipeline whose stages build the training set."""
    dataset: Name
    """Stage of it that gives the training set."""
    params: dict[Name, str | int | float | bool] = Field(default_factory=dict)
    """Values for the pipeline's params; the others keep their defaults."""
    seed_param: Name | None = None
    """Param that takes each run's seed, so that each seed has a random split of its own."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Config of `train_ranker` that the rankers share."""
    entries: dict[Name, EntrySpec] = Field(min_length=1)
    """Rows of the table, by name."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Seed of each run."""
    against: Name | None = None
    """Entry that the others are marked against."""
    references: tuple[Reference, ...] = ()
    """Published numbers."""
    notes: str = ""
    """Markdown below the table: how it was measured, what to conclude."""
