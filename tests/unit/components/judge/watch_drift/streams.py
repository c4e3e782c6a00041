"""Days of a log whose truth is known: a baseline, quiet days, and days on which one thing drifted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from components.judge.evaluate_ranker.rows import Judged
from components.judge.watch_drift.answers import Enough, Told, answer_cells
from components.judge.watch_drift.clusters import Clusters, auc_of, log_ratio
from components.judge.watch_drift.config import Limits
from components.judge.watch_drift.fields import field_cells
from components.judge.watch_drift.report import Cell, Day, settled
from components.judge.watch_drift.shares import Size
from components.rankers.tasks import Task
from features.declaration import Window
from registry.evaluation import ALL, Evaluation, Interval
from registry.evaluation import Cell as Judgement
from registry.serving.evidence.baseline import Baseline, Directions, _scores, _spread

START = datetime(2026, 1, 1, tzinfo=UTC)
TASK = Task(name="click", label="click")
DOMAINS = ("cards", "loans")
VALUES = np.array(["a", "b", "c", "d", "e"])
OFTEN = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
LOOSE = Limits(moved=0.0, missing=0.0, level=1e-9, calibration=1e-9, ranking=0.0)
"""Nothing is too small to be told, so that chance alone decides."""


@dataclass(frozen=True)
class Drift:
    """What differs on a day."""

    shift: float = 0.0
    """Of the number, in standard deviations."""
    rare: float = 0.05
    """Share of the rarest value."""
    gone: float = 0.02
    """Share of the rows without a length."""
    rate: float = 1.0
    """By how much more the users of loans click than the scores say."""
    kept: float = 1.0
    """Share of the clicks that came in time."""
    noise: float = 0.0
    """Standard deviation of what is added to the logits of the answers, which ranks worse."""


@dataclass(frozen=True)
class Rows:
    """Rows of one day or of a baseline."""

    table: pa.Table
    score: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]
    domain: np.ndarray[Any, Any]
    users: np.ndarray[Any, Any]


def rows_of(rng: np.random.Generator, users: int, each: int, drift: Drift = Drift()) -> Rows:
    """Return rows of so many users with so many rows each, partly alike."""
    user = np.repeat(np.arange(users), each)
    n = user.size

    def mixed(share: float) -> np.ndarray[Any, Any]:
        return np.sqrt(share) * rng.normal(size=users)[user] + np.sqrt(1 - share) * rng.normal(size=n)

    rarest = OFTEN.copy()
    rarest[:-1] *= (1 - drift.rare) / (1 - OFTEN[-1])
    rarest[-1] = drift.rare
    domain = np.where(rng.random(users)[user] < 0.5, *DOMAINS)
    lengths = rng.poisson(4, users)[user]
    logit = mixed(0.5) - 1.5
    truth = 1 / (1 + np.exp(-logit))
    truth = np.minimum(np.where(domain == "loans", truth * drift.rate, truth), 1.0)
    label = (rng.random(n) < truth) & (rng.random(n) < drift.kept)
    score = 1 / (1 + np.exp(-logit - drift.noise * rng.normal(size=n)))
    gone = rng.random(n) < drift.gone
    table = pa.table(
        {
            "price": pa.array(mixed(0.5) + drift.shift),
            "kind": pa.array(rng.choice(VALUES, users if each > 1 else n, p=rarest)[user]),
            "history": pa.array([None if no else [1] * k for no, k in zip(gone, lengths, strict=True)]),
        }
    )
    return Rows(table, score, label.astype(np.float64), domain, user)


def baseline_of(rows: Rows) -> tuple[Baseline, Evaluation]:
    """Return what a version would carry that was judged on these rows."""
    clusters = Clusters.of(rows.users)
    scores = [_scores("click", ALL, rows.score)]
    cells = []
    for name in (ALL, *DOMAINS):
        kept = rows.domain == name if name != ALL else np.ones(rows.users.size, dtype=bool)
        scores += [_scores("click", name, rows.score[kept])] if name != ALL else []
        some = clusters.where(kept)
        area, ratio = (
            auc_of(rows.label[kept], rows.score[kept], some),
            log_ratio(rows.score[kept], rows.label[kept], some),
        )
        assert area is not None and ratio is not None
        pcoc = float(np.exp(ratio.value))
        metrics = {"auc": _interval(area.value, area.error), "pcoc": _interval(pcoc, pcoc * ratio.error)}
        cells.append(
            Judgement(task="click", domain=name, space="", rows=int(kept.sum()), positives=1, metrics=metrics)  # type: ignore[arg-type]
        )
    baseline = Baseline(
        rows=rows.users.size, window=Window(start=START, end=START + timedelta(days=7)), users=clusters.size, days=7,
        fields={name: _spread(rows.table[name], None) for name in rows.table.column_names}, scores=tuple(scores),
        hidden=Directions(width=1, mean=(), deviation=()),
    )  # fmt: skip
    evaluation = Evaluation(
        model_digest="m", dataset_digest="d", split="test", rows=baseline.rows, window_start=None, window_end=None,
        confidence=0.95, resamples=1, provider="cpu", tasks=("click",), domains=DOMAINS, cells=tuple(cells),
        calibration=(),
    )  # fmt: skip
    return baseline, evaluation


def cells_of(rows: Rows, known: tuple[Baseline, Evaluation], limits: Limits, together: bool = True) -> tuple[Cell, ...]:
    """Return the cells of a day; not `together`, each row counts as a user of its own."""
    baseline, evaluation = known
    clusters = Clusters.of(rows.users if together else np.arange(rows.users.size))
    if not together:
        baseline = baseline.model_copy(update={"users": baseline.rows})
    base = Size(baseline.rows, baseline.users)
    judged = Judged(labels={"click": rows.label}, user=rows.users, domain=rows.domain, start=None, end=None)
    told = Told(judged, {"click": rows.score}, None, clusters)
    enough = Enough(rows=500, users=30)
    return (
        *field_cells(rows.table, baseline.fields, base, clusters, {}, limits, frozenset()),
        *answer_cells(told, (TASK,), baseline, evaluation, limits, enough, placed=False),
    )


def day(at: int, cells: tuple[Cell, ...]) -> Day:
    start = START + timedelta(days=at)
    return Day(start=start, end=start + timedelta(days=1), rows=1, users=1, judged=1, rates={}, cells=cells)


def found(drift: Drift, seed: int, users: int = 400, each: int = 10, days: int = 2) -> set[tuple[str, str, str]]:
    """Return what alarms on the last of some days that all drifted alike."""
    rng = np.random.default_rng(seed)
    known = baseline_of(rows_of(rng, users * 4, each))
    seen = [day(at, cells_of(rows_of(rng, users, each, drift), known, Limits())) for at in range(days)]
    return {cell.key for cell in settled(seen, 0.01)[-1].alarms}


def _interval(value: float, error: float) -> Interval:
    return Interval(value=value, low=value - 1.959964 * error, high=value + 1.959964 * error)


__all__ = ["LOOSE", "Drift", "baseline_of", "cells_of", "day", "found", "rows_of"]
