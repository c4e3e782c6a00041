"""What does a study of the error memory hold? Four learners, per slot of time and over the period."""

from __future__ import annotations

from typing import Literal

from components.memory.study_error_memory.memories import Memory
from features.declaration import Frozen, Name, Window
from registry.evaluation import Interval

Variant = Literal["base", "memory", "incremental", "both"]
VARIANTS: tuple[Variant, ...] = ("base", "memory", "incremental", "both")
StudyMetric = Literal["auc", "gauc", "log_loss", "pcoc"]
METRICS: tuple[StudyMetric, ...] = ("auc", "gauc", "log_loss", "pcoc")
PeriodMetric = Literal["auc", "gauc", "gauc_in_slot", "log_loss", "pcoc"]
PERIOD: tuple[PeriodMetric, ...] = ("auc", "gauc", "gauc_in_slot", "log_loss", "pcoc")
"""Metrics of a whole period. GAUC compares all rows of a user, those from before a learner knew the user with those
from after; `gauc_in_slot` compares rows of a user in one slot only, which one state of the learner has ranked."""


class SlotTask(Frozen):
    """One task in one slot."""

    positives: int
    """Rows with the label."""
    weights: dict[Variant, float]
    """λ chosen on earlier slots, of the two variants with a memory."""
    metrics: dict[Variant, dict[StudyMetric, float | None]]
    """By variant and metric; None where it is undefined (one class, no positive)."""


class Slot(Frozen):
    """One slot of time, every variant scored before it learned from the slot."""

    slot: int
    """1, 2, … in order of time."""
    window: Window
    """``[first row, just after the last row)``."""
    rows: int
    """Rows of the slot."""
    stored: int
    """Rows the memory stood for when the slot was scored."""
    tasks: dict[Name, SlotTask]
    """By feedback."""


class Overall(Frozen):
    """One variant over the whole test period."""

    metrics: dict[PeriodMetric, float | None]
    """Over all rows of the period, the first slot included."""
    difference: dict[PeriodMetric, Interval]
    """Variant − base with an interval over resampled users (`gauc_in_slot`: users in a slot); empty for the base."""


class RateTried(Frozen):
    """Incremental training over the validation split; rate 0 is the base model, for reference."""

    rate: float
    """Step size of Adam."""
    log_loss: float
    """Mean over rows and feedback, each slot scored before the pass over it."""


class MemoryTried(Frozen):
    """One memory over the validation split."""

    memory: Memory | None
    """Store, τ and ρ; None is the learner without a memory."""
    log_loss: float
    """Mean over rows and feedback, each slot scored with λ chosen on earlier slots and then written."""


class MemoryChoice(Frozen):
    """The memory of one learner, and how it was chosen."""

    memory: Memory
    """What the test period is replayed with."""
    helps: bool | None
    """Whether its log-loss on validation is below that of no memory; None where one setting was given."""
    tried: tuple[MemoryTried, ...]
    """On validation, no memory first, then the plainer first; empty where one setting was given."""


class StudyReport(Frozen):
    """What four learners did on one test period, and how their settings were chosen."""

    ranker: str
    """Registered name of the ranker."""
    ranker_digest: str
    """Digest of its artifact."""
    dataset_digest: str
    """Digest of the training set."""
    rows: int
    """Rows of the test period."""
    window: Window
    """``[first row, just after the last row)``."""
    memory: str
    """Key and read-out in words."""
    choices: dict[Variant, MemoryChoice]
    """Memory of `memory` and of `both`."""
    learning_rate: float
    """Chosen on the validation split."""
    learning_rates: tuple[RateTried, ...]
    """What was tried there."""
    lambdas: tuple[float, ...]
    """λ to choose from, on earlier slots of the test period."""
    bootstrap: int
    """Resamples of users behind the intervals."""
    tasks: dict[Name, dict[Variant, Overall]]
    """By feedback and variant."""
    slots: tuple[Slot, ...]
    """In order of time."""
