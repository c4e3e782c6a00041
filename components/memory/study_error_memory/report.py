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
    """One task in one slot.

    Attributes:
        positives: rows with the label.
        weights: λ chosen on earlier slots, of the two variants with a memory.
        metrics: by variant and metric; None where it is undefined (one class, no positive).
    """

    positives: int
    weights: dict[Variant, float]
    metrics: dict[Variant, dict[StudyMetric, float | None]]


class Slot(Frozen):
    """One slot of time, every variant scored before it learned from the slot.

    Attributes:
        slot: 1, 2, … in order of time.
        window: ``[first row, just after the last row)``.
        rows: rows of the slot.
        stored: rows the memory stood for when the slot was scored.
        tasks: by feedback.
    """

    slot: int
    window: Window
    rows: int
    stored: int
    tasks: dict[Name, SlotTask]


class Overall(Frozen):
    """One variant over the whole test period.

    Attributes:
        metrics: over all rows of the period, the first slot included.
        difference: variant − base with an interval over resampled users (`gauc_in_slot`: users in a slot);
            empty for the base.
    """

    metrics: dict[PeriodMetric, float | None]
    difference: dict[PeriodMetric, Interval]


class RateTried(Frozen):
    """Incremental training over the validation split; rate 0 is the base model, for reference.

    Attributes:
        rate: step size of Adam.
        log_loss: mean over rows and feedback, each slot scored before the pass over it.
    """

    rate: float
    log_loss: float


class MemoryTried(Frozen):
    """One memory over the validation split.

    Attributes:
        memory: store, τ and ρ; None is the learner without a memory.
        log_loss: mean over rows and feedback, each slot scored with λ chosen on earlier slots and then written.
    """

    memory: Memory | None
    log_loss: float


class MemoryChoice(Frozen):
    """The memory of one learner, and how it was chosen.

    Attributes:
        memory: what the test period is replayed with.
        helps: whether its log-loss on validation is below that of no memory; None where one setting was given.
        tried: on validation, no memory first, then the plainer first; empty where one setting was given.
    """

    memory: Memory
    helps: bool | None
    tried: tuple[MemoryTried, ...]


class StudyReport(Frozen):
    """What four learners did on one test period, and how their settings were chosen.

    Attributes:
        ranker: registered name of the ranker.
        ranker_digest: digest of its artifact.
        dataset_digest: digest of the training set.
        rows: rows of the test period.
        window: ``[first row, just after the last row)``.
        memory: key and read-out in words.
        choices: memory of `memory` and of `both`.
        learning_rate: chosen on the validation split.
        learning_rates: what was tried there.
        lambdas: λ to choose from, on earlier slots of the test period.
        bootstrap: resamples of users behind the intervals.
        tasks: by feedback and variant.
        slots: in order of time.
    """

    ranker: str
    ranker_digest: str
    dataset_digest: str
    rows: int
    window: Window
    memory: str
    choices: dict[Variant, MemoryChoice]
    learning_rate: float
    learning_rates: tuple[RateTried, ...]
    lambdas: tuple[float, ...]
    bootstrap: int
    tasks: dict[Name, dict[Variant, Overall]]
    slots: tuple[Slot, ...]
