"""Which figures say how the four learners did? The same metrics per slot and over the period, with differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.memory.study_error_memory.report import (
    PERIOD,
    VARIANTS,
    Overall,
    PeriodMetric,
    Slot,
    SlotTask,
    StudyMetric,
    Variant,
)
from features.declaration import Name
from registry import metrics
from registry.evaluation import Interval
from registry.memory.prequential import Replay, Stream, span

Array = np.ndarray[Any, Any]
Predicted = Mapping[str, Mapping[str, Array]]
"""By variant and task: float64 ``[N]``, every row's answer from before its slot was learned."""


def figures_of(labels: Array, predicted: Array, users: Array) -> dict[StudyMetric, float | None]:
    """Return every metric of one set of predictions."""
    return {
        "auc": metrics.auc(labels, predicted),
        "gauc": metrics.gauc(labels, predicted, users),
        "log_loss": metrics.log_loss(labels, predicted),
        "pcoc": metrics.pcoc(labels, predicted),
    }


def overall(
    stream: Stream,
    predicted: Predicted,
    feedback: tuple[str, ...],
    bounds: Sequence[tuple[int, int]],
    bootstrap: int,
    seed: int,
) -> dict[Name, dict[Variant, Overall]]:
    """Return the metrics over all rows, and how each variant differs from the base with paired resamples of users."""
    slot = np.repeat(np.arange(len(bounds)), [end - begin for begin, end in bounds])
    _, in_slot = np.unique(np.stack([stream.users, slot]), axis=1, return_inverse=True)
    found: dict[Name, dict[Variant, Overall]] = {}
    for task in feedback:
        label, base = stream.labels[task], predicted["base"][task]
        found[task] = {}
        for variant in VARIANTS:
            scores = predicted[variant][task]
            plain = figures_of(label, scores, stream.users)
            figures: dict[PeriodMetric, float | None] = {
                name: metrics.gauc(label, scores, in_slot) if name == "gauc_in_slot" else plain[name] for name in PERIOD
            }
            difference: dict[PeriodMetric, Interval] = {}
            for name in PERIOD if variant != "base" else ():
                metric: StudyMetric = "gauc" if name == "gauc_in_slot" else name
                groups = in_slot if name == "gauc_in_slot" else stream.users
                difference[name] = metrics.paired_bootstrap(label, scores, base, groups, metric, bootstrap, seed)
            found[task][variant] = Overall(metrics=figures, difference=difference)
    return found


def slot_figures(
    stream: Stream,
    predicted: Predicted,
    feedback: tuple[str, ...],
    bounds: Sequence[tuple[int, int]],
    replays: Mapping[str, Replay],
) -> tuple[Slot, ...]:
    """Return every slot's metrics and the λ each memory was read with."""
    slots = []
    for number, (begin, end) in enumerate(bounds):
        at = slice(begin, end)
        both: tuple[Variant, ...] = ("memory", "both")
        tasks = {
            task: SlotTask(
                positives=int(stream.labels[task][at].sum()),
                weights={variant: replays[variant].slots[number].tasks[task].weight for variant in both},
                metrics={
                    variant: figures_of(stream.labels[task][at], predicted[variant][task][at], stream.users[at])
                    for variant in VARIANTS
                },
            )
            for task in feedback
        }
        slots.append(
            Slot(
                slot=number + 1,
                window=span(stream.times[at]),
                rows=end - begin,
                stored=replays["memory"].slots[number].stored,
                tasks=tasks,
            )
        )
    return tuple(slots)
