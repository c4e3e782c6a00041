"""Would the error memory have helped? Replay labelled rows in order of time: score first, write after.

Zhu et al., KDD 2023, section 5.1: the stream is cut into slots of time; slot t is scored with a memory
of slots before t, and only then written. λ of slot t is the best on the slots before it, so that no
label touches a prediction that is judged by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from features.declaration import Frozen, Name, Window
from features.ground.errors import BadInputError
from registry import metrics
from registry.memory.compensation import apply, errors_of, in_funnel_order
from registry.memory.error_memory import TaskCompensation
from registry.memory.neighbours import Store
from registry.memory.spec import ReadOut

Array = np.ndarray[Any, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AT_ONCE = 1 << 15
"""Rows of a slot that are looked up, and written, at once."""


class SlotMetrics(Frozen):
    """One set of predictions of one slot; None where a metric is undefined (one class, no positive)."""

    auc: float | None
    gauc: float | None
    log_loss: float | None
    pcoc: float | None


class TaskSlot(Frozen):
    """One task in one slot."""

    positives: int
    """Rows with the label."""
    weight: float
    """λ the slot was compensated with, chosen on earlier slots."""
    base: SlotMetrics
    """The base model's metrics."""
    compensated: SlotMetrics
    """Metrics after compensation."""


class SlotReport(Frozen):
    """One slot of time, base against compensated."""

    slot: int
    """1, 2, … in order of time."""
    window: Window
    """``[first row, just after the last row)``."""
    rows: int
    """Rows of the slot."""
    stored: int
    """Rows the memory stood for when the slot was scored: those of earlier slots only."""
    empty: float
    """Share of neighbours read that held nothing."""
    tasks: dict[Name, TaskSlot]
    """By feedback."""


class Keys(Protocol):
    """Keys of rows that are read a part after the other."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and width."""

    def __getitem__(self, rows: slice) -> Array:
        """Return the keys of some rows, float64 ``[rows, width]``."""


@dataclass(frozen=True)
class Stream:
    """Labelled rows with the champion's answers, in order of time."""

    times: Array
    """int64 microseconds since 1970 UTC ``[N]``, never falling."""
    users: Array
    """``[N]``, equal for rows of the same user; groups GAUC."""
    keys: Array | Keys
    """float64 ``[N, width]``; on disk where memory should not hold them."""
    labels: Mapping[str, Array]
    """By feedback: 0 or 1, ``[N]``."""
    predicted: Mapping[str, Array]
    """By feedback: the base model's probability, ``[N]``."""


@dataclass(frozen=True)
class Replay:
    """What a replay leaves: one report per slot, the outcome per task, and every compensated prediction."""

    slots: tuple[SlotReport, ...]
    tasks: dict[Name, TaskCompensation]
    """λ and verdict by feedback."""
    compensated: dict[str, Array]
    """By feedback: float64 ``[N]``; rows of no slot keep the base model's prediction."""


def slot_bounds(times: Array, slots: int) -> tuple[tuple[int, int], ...]:
    """Cut rows into at most `slots` runs of nearly equal length, rows of one moment never apart.

    Args:
        times: ``[N]``, never falling.
        slots: how many runs to aim for; fewer come out where one moment fills several.

    Returns:
        Half-open row ranges that cover all rows in order, none of them empty.
    """
    aims = (np.arange(1, slots) * len(times)) // slots
    # A cut inside a run of equal times moves to the start of that run.
    cuts = np.searchsorted(times, times[aims], side="left") if len(times) else np.zeros(0, dtype=np.int64)
    edges = np.unique(np.concatenate(([0], cuts, [len(times)])))
    return tuple((int(a), int(b)) for a, b in pairwise(edges))


def timed_slots(times: Array, length: timedelta) -> tuple[tuple[int, int], ...]:
    """Cut rows where a whole multiple of `length` since 1970 UTC passes.

    Args:
        times: int64 microseconds ``[N]``, never falling.
        length: length of a slot; an hour cuts at full hours of UTC.

    Returns:
        Half-open row ranges that cover all rows in order, none of them empty.
    """
    number = times // (length // timedelta(microseconds=1))
    edges = np.concatenate(([0], np.flatnonzero(np.diff(number)) + 1, [len(times)]))
    return tuple((int(a), int(b)) for a, b in pairwise(edges) if a < b)


def span(times: Array) -> Window:
    """Return ``[first, just after the last)`` of int64 microseconds that never fall."""
    first, last = int(times[0]), int(times[-1])
    return Window(start=EPOCH + timedelta(microseconds=first), end=EPOCH + timedelta(microseconds=last + 1))


def replay(
    stream: Stream,
    store: Store,
    feedback: tuple[str, ...],
    *,
    bounds: Sequence[tuple[int, int]],
    read_out: ReadOut,
    grid: tuple[float, ...],
    funnel: bool,
    decay: float = 1.0,
    progress: Callable[[str], None] = lambda message: None,
) -> Replay:
    """Score every slot with the memory of earlier slots, then write it into `store`.

    The store is empty at first and has seen every row afterwards. Each slot takes the λ of `grid` with the least
    log-loss on earlier slots, the smallest on a tie; the first takes 0. With `decay` ρ, all that is older counts ρ
    times what it did once a slot is written.

    Raises:
        BadInputError: the stream is empty or not in order of time, or the store is not empty.
    """
    _check(stream, store)
    candidates = sorted(grid)
    loss = {task: np.zeros(len(candidates)) for task in feedback}
    reports: list[SlotReport] = []
    compensated = {task: np.array(stream.predicted[task], dtype=np.float64) for task in feedback}
    for begin, end in bounds:
        rows = slice(begin, end)
        labels = {task: np.asarray(stream.labels[task][rows], dtype=np.float64) for task in feedback}
        base = {task: np.asarray(stream.predicted[task][rows], dtype=np.float64) for task in feedback}
        weights = {task: candidates[int(np.argmin(loss[task]))] if reports else 0.0 for task in feedback}
        errors, empty = _errors(stream.keys, begin, base, store, read_out)
        answer = {task: apply(base[task], errors[task], weights[task]) for task in feedback}
        if funnel:
            answer = in_funnel_order(answer, base, feedback)
        reports.append(
            SlotReport(
                slot=len(reports) + 1,
                window=span(stream.times[rows]),
                rows=end - begin,
                stored=store.rows,
                empty=empty,
                tasks={
                    task: TaskSlot(
                        positives=int(labels[task].sum()),
                        weight=weights[task],
                        base=_metrics(labels[task], base[task], stream.users[rows]),
                        compensated=_metrics(labels[task], answer[task], stream.users[rows]),
                    )
                    for task in feedback
                },
            )
        )
        for task in feedback:
            compensated[task][rows] = answer[task]
            loss[task] += [_total_loss(labels[task], apply(base[task], errors[task], w)) for w in candidates]
        if decay < 1:
            store.forget(decay)
        for part in _parts(end - begin):
            keys = stream.keys[begin + part.start : begin + part.stop]
            store.write(keys, *({task: of[task][part] for task in feedback} for of in (labels, base)))
        progress(f"slot {len(reports)} of {len(bounds)}: {end - begin} rows scored, then written")
    outcome = {
        task: _outcome(task, reports, candidates[int(np.argmin(loss[task]))] if len(reports) > 1 else 0.0)
        for task in feedback
    }
    return Replay(slots=tuple(reports), tasks=outcome, compensated=compensated)


def _parts(rows: int) -> Iterator[slice]:
    """Yield so many rows of a slot after the other, the last few with those before them.

    Searches go through their queries in runs of as many, so that what is found is that of one search, to the bit.
    """
    starts = range(0, max(1, rows - AT_ONCE + 1), AT_ONCE)
    for start in starts:
        yield slice(start, rows if start == starts[-1] else start + AT_ONCE)


def _errors(
    keys: Array | Keys, begin: int, base: Mapping[str, Array], store: Store, read_out: ReadOut
) -> tuple[dict[str, Array], float]:
    """Return the error estimates of a slot's rows by task, and the share of the neighbours that held nothing."""
    found: dict[str, list[Array]] = {task: [] for task in base}
    nothing, read = 0, 0
    for part in _parts(len(next(iter(base.values())))):
        neighbours = store.read(keys[begin + part.start : begin + part.stop])
        errors = errors_of(neighbours, {task: values[part] for task, values in base.items()}, read_out)
        nothing, read = nothing + int((neighbours.count == 0).sum()), read + neighbours.count.size
        for task in base:
            found[task].append(errors[task])
    return {task: np.concatenate(parts) for task, parts in found.items()}, nothing / read


def _check(stream: Stream, store: Store) -> None:
    if len(stream.times) == 0:
        raise BadInputError("the stream of the error memory has no row: give it rows after the champion's training cut")
    if (np.diff(stream.times) < 0).any():
        raise BadInputError("the stream of the error memory is not in order of time: sort it by time and row id")
    if store.rows:
        raise BadInputError(f"the error memory already holds {store.rows} rows: replay a stream into an empty one")


def _outcome(task: str, reports: list[SlotReport], weight: float) -> TaskCompensation:
    judged = [(report.rows, report.tasks[task]) for report in reports[1:]]
    rows = sum(count for count, _ in judged)
    if rows == 0:
        return TaskCompensation(weight=weight, base_log_loss=None, log_loss=None, enabled=False)
    base = sum(count * (slot.base.log_loss or 0.0) for count, slot in judged) / rows
    after = sum(count * (slot.compensated.log_loss or 0.0) for count, slot in judged) / rows
    return TaskCompensation(weight=weight, base_log_loss=base, log_loss=after, enabled=after <= base)


def _metrics(labels: Array, predicted: Array, users: Array) -> SlotMetrics:
    return SlotMetrics(
        auc=metrics.auc(labels, predicted),
        gauc=metrics.gauc(labels, predicted, users),
        log_loss=metrics.log_loss(labels, predicted),
        pcoc=metrics.pcoc(labels, predicted),
    )


def _total_loss(labels: Array, predicted: Array) -> float:
    return (metrics.log_loss(labels, predicted) or 0.0) * len(labels)
