"""Do a version's answers lie, hold and rank as when it was judged? Each task, everywhere and in each domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from components.judge.evaluate_ranker.rows import Judged
from components.judge.watch_drift.clusters import (
    Clusters,
    Estimate,
    auc_of,
    beyond,
    gauc_of,
    log_ratio,
    mean_of,
)
from components.judge.watch_drift.config import Limits
from components.judge.watch_drift.joined import differing
from components.judge.watch_drift.report import Bins, Cell
from components.judge.watch_drift.shares import Size, ks, moved
from components.rankers.tasks import Task
from registry.evaluation import ALL, Evaluation, Interval, Metric
from registry.serving.evidence.baseline import Baseline, Scores

Array = NDArray[Any]
ALIKE = 1e-3
"""Difference of two probabilities below which they are the same: half precision and other devices stay within it."""
FEWEST = 10
"""Rows of the rarer label without which neither calibration nor ranking is judged."""


class Enough(BaseModel, frozen=True):
    """What a cell needs to be judged."""

    rows: int
    users: int

    def lack(self, clusters: Clusters) -> str:
        """Return what rows of these users lack, empty where they are enough."""
        if clusters.codes.size < self.rows:
            return f"{clusters.codes.size:,} rows, {self.rows:,} are needed"
        if clusters.equivalent < self.users:
            return f"worth {clusters.equivalent:.0f} equally active users, {self.users} are needed"
        return ""


@dataclass(frozen=True)
class Told:
    """Answers of the version to rows of a day."""

    rows: Judged
    """Labels and domains."""
    base: Mapping[str, Array]
    """By task float64 ``[rows]``, before an error memory."""
    served: Mapping[str, Array] | None
    """By task, as callers got it; None without a log."""
    clusters: Clusters


def answer_cells(
    told: Told,
    tasks: Sequence[Task],
    baseline: Baseline,
    evaluation: Evaluation | None,
    limits: Limits,
    enough: Enough,
    *,
    placed: bool,
) -> Iterator[Cell]:
    """Yield the cells of every task.

    Args:
        told: the answers.
        tasks: those that the version predicts.
        baseline: of the version.
        evaluation: its own report, None where it has none.
        limits: the largest changes that nobody minds.
        enough: what a cell needs.
        placed: whether answers are for one place while labels are for the one shown: then calibration says nothing.
    """
    known = {(one.task, one.domain): one for one in baseline.scores}
    for task in tasks:
        if task.name not in told.base:
            continue
        every = np.ones(told.clusters.codes.size, dtype=bool)
        domains = {ALL: every}
        if told.rows.domain is not None:
            domains |= {name: told.rows.domain == name for name in sorted({one.domain for one in baseline.scores})}
            domains[ALL] = every
        for domain, kept in domains.items():
            if (scores := known.get((task.name, domain))) is not None:
                # Nobody counted the users of a domain: they are taken to be as many as its rows are.
                users = round(baseline.users * scores.rows / max(1, baseline.rows))
                yield from _score_cells(told, scores, kept, Size(scores.rows, users), limits, enough)
            space = kept & told.rows.space(task)
            yield from _label_cells(told, task, domain, space, evaluation, limits, enough, placed)


def skew_cells(
    logged: Mapping[str, Array], again: Mapping[str, Array], clusters: Clusters, limit: float
) -> Iterator[Cell]:
    """Yield by task how many of the same rows the version's files answer otherwise than the service did."""
    others = {task: np.abs(logged[task] - answers) > ALIKE for task, answers in again.items() if task in logged}
    yield from differing("skew", others, clusters, limit)


def _score_cells(told: Told, scores: Scores, kept: Array, base: Size, limits: Limits, enough: Enough) -> Iterator[Cell]:
    clusters, values = told.clusters.where(kept), told.base[scores.task][kept]
    lack = enough.lack(clusters)
    if limits.moved is not None:
        yield _scores_moved(scores, values, base, clusters, limits.moved, lack)
    if limits.level is not None:
        limit = float(np.log1p(limits.level))
        cell = Cell(
            check="level", of=scores.task, domain=scores.domain, rows=values.size, before=scores.mean, limit=limit
        )
        if lack or scores.mean <= 0:
            yield cell.model_copy(update={"reason": lack or "the baseline's mean is 0"})
            return
        mean = mean_of(values, clusters)
        change = float(np.log(max(mean.value, 1e-12) / scores.mean))
        error = mean.error * np.sqrt(1 + base.noise(clusters)) / max(mean.value, 1e-12)
        chance = beyond(change, error, limit, clusters.freedom, both=True)
        yield cell.model_copy(update={"now": mean.value, "change": abs(change), "chance": chance})


def _scores_moved(scores: Scores, values: Array, base: Size, clusters: Clusters, limit: float, lack: str) -> Cell:
    cell = Cell(check="score", of=scores.task, domain=scores.domain, rows=values.size, limit=limit, reason=lack)
    if lack:
        return cell
    expected = np.asarray(scores.shares)
    codes = np.searchsorted(scores.edges, values, side="right")
    move = moved(expected, base, codes, clusters)
    now = np.bincount(codes, minlength=expected.size) / values.size
    names = ("lowest", *(f"from {edge:.3g}" for edge in scores.edges))
    bins = Bins(names=names, before=scores.shares, now=tuple(now.tolist())) if scores.domain == ALL else None
    return cell.model_copy(
        update={
            "now": move.psi,
            "distance": ks(expected, codes),
            "change": move.size,
            "chance": move.chance,
            "bins": bins,
        }
    )


def _label_cells(
    told: Told,
    task: Task,
    domain: str,
    space: Array,
    evaluation: Evaluation | None,
    limits: Limits,
    enough: Enough,
    placed: bool,
) -> Iterator[Cell]:
    labels, base = told.rows.labels[task.label][space], told.base[task.name][space]
    clusters = told.clusters.where(space)
    rarer = int(min(labels.sum(), labels.size - labels.sum()))
    lack = enough.lack(clusters) or (f"{rarer} rows of one label, {FEWEST} are needed" if rarer < FEWEST else "")
    confidence = evaluation.confidence if evaluation else 0.95
    if limits.calibration is not None:
        own = _figure(evaluation, task.name, domain, "pcoc")
        reason = lack or ("answers are for one place, labels for the one shown" if placed else "")
        yield _calibration(Cell(
            check="calibration", of=task.name, domain=domain, rows=labels.size, reason=reason,
            limit=float(np.log1p(limits.calibration)), before=own.value or 1.0,
        ), labels, base, clusters, own, confidence)  # fmt: skip
    if limits.ranking is not None:
        metric: Metric = "gauc" if evaluation and evaluation.judge_by == "gauc" else "auc"
        own = _figure(evaluation, task.name, domain, metric)
        reason = lack or ("the version's evaluation does not tell it" if own.value is None else "")
        yield _ranking(Cell(
            check="ranking", of=task.name, domain=domain, rows=labels.size, reason=reason, limit=limits.ranking,
            before=own.value,
        ), labels, base, clusters, own, confidence, metric)  # fmt: skip
    if limits.memory is not None and domain == ALL and told.served is not None and task.name in told.served:
        served = told.served[task.name][space]
        cell = Cell(check="memory", of=task.name, rows=labels.size, reason=lack, limit=limits.memory)
        if not np.array_equal(served, base):
            yield cell if lack else _memory(cell, labels, base, served, clusters)


def _calibration(cell: Cell, labels: Array, base: Array, clusters: Clusters, own: Interval, confidence: float) -> Cell:
    ratio = None if cell.reason else log_ratio(base, labels, clusters)
    if ratio is None or cell.before is None or cell.before <= 0:
        return cell
    change = ratio.value - float(np.log(cell.before))
    error = float(np.hypot(ratio.error, _error(own, confidence) / cell.before))
    chance = beyond(change, error, cell.limit, clusters.freedom, both=True)
    return cell.model_copy(update={"now": float(np.exp(ratio.value)), "change": abs(change), "chance": chance})


def _ranking(
    cell: Cell, labels: Array, base: Array, clusters: Clusters, own: Interval, confidence: float, metric: Metric
) -> Cell:
    if cell.reason or cell.before is None:
        return cell
    found: Estimate | None = (gauc_of if metric == "gauc" else auc_of)(labels, base, clusters)
    if found is None:
        return cell.model_copy(update={"reason": "no user has both labels"})
    change = cell.before - found.value
    error = float(np.hypot(found.error, _error(own, confidence)))
    chance = beyond(change, error, cell.limit, clusters.freedom, both=False)
    return cell.model_copy(update={"now": found.value, "change": change, "chance": chance})


def _memory(cell: Cell, labels: Array, base: Array, served: Array, clusters: Clusters) -> Cell:
    def loss(p: Array) -> Array:
        q = np.clip(p, 1e-7, 1 - 1e-7)
        return np.asarray(-(labels * np.log(q) + (1 - labels) * np.log1p(-q)))

    before, after = loss(base), loss(served)
    ratio = log_ratio(after, before, clusters)
    if ratio is None:
        return cell
    chance = beyond(ratio.value, ratio.error, cell.limit, clusters.freedom, both=False)
    return cell.model_copy(update={"now": float(np.expm1(ratio.value)), "change": ratio.value, "chance": chance})


def _figure(evaluation: Evaluation | None, task: str, domain: str, metric: Metric) -> Interval:
    try:
        return (
            evaluation.cell(task, domain).metrics.get(metric, Interval(value=None))
            if evaluation
            else Interval(value=None)
        )
    except KeyError:
        return Interval(value=None)


def _error(own: Interval, confidence: float) -> float:
    """Return the standard error that an interval tells of, 0 where it tells none."""
    from scipy.special import ndtri

    if own.low is None or own.high is None:
        return 0.0
    return float((own.high - own.low) / (2 * ndtri((1 + confidence) / 2)))
