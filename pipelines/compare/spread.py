"""What do several seeds say together? Mean, spread, and whether a difference is larger than its error. Pure numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.compare.record import Measured, Row
from registry.evaluation import Metric, goodness

Mark = Literal["better", "worse", ""]
ERRORS = 2.0
"""Standard errors that a difference must exceed to be marked."""
FEWEST = 3
"""Seeds without which nothing is marked: two values say next to nothing about their error."""


@dataclass(frozen=True)
class Spread:
    """Values over seeds."""

    mean: float
    std: float | None
    """Their standard deviation (divided by n − 1); None for one value."""
    count: int


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return mean and standard deviation; None where a value is undefined or there is none."""
    defined = [value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return None
    return Spread(statistics.fmean(defined), statistics.stdev(defined) if len(defined) > 1 else None, len(defined))


def figures(row: Row, task: str, metric: str) -> list[float | None]:
    """Return a test metric of a row, one value per seed."""
    return [run.test.get(task, {}).get(metric) for run in row.runs]


def best_first(rows: dict[str, Row], task: str, metric: Metric) -> dict[str, Row]:
    """Return the rows by their mean of a test metric, the best first; those without one come last, as they were."""

    def place(name: str) -> tuple[bool, float]:
        found = spread(figures(rows[name], task, metric))
        if found is None:
            return True, 0.0
        return False, -goodness(metric, found.mean)

    return {name: rows[name] for name in sorted(rows, key=place)}


def difference(row: Row, other: Row, task: str, metric: str) -> Spread | None:
    """Return row − other over the seeds that both have, seed by seed; None where there is nothing to compare."""
    mine, theirs = ({run.seed: run.test.get(task, {}).get(metric) for run in r.runs} for r in (row, other))
    pairs = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
    return spread([None if a is None or b is None else a - b for a, b in pairs])


def mark(row: Row, other: Row, task: str, metric: Metric) -> Mark:
    """Return whether a row is better or worse than another by more than two standard errors of the difference.

    Differences are taken within seeds: where each seed has a split of its own, both saw the same rows. Fewer than
    `FEWEST` seeds mark nothing.
    """
    gap = difference(row, other, task, metric)
    if metric == "pcoc" or gap is None or gap.std is None or gap.count < FEWEST:  # of PCOC the middle is best
        return ""
    error = gap.std / gap.count**0.5
    if abs(gap.mean) <= ERRORS * error:
        return ""
    return "better" if goodness(metric, gap.mean) > 0 else "worse"


def mean_of(runs: Sequence[Measured], name: str) -> float | None:
    """Return the mean of a number of each run; None where a run has none."""
    over_runs = spread([getattr(run, name) for run in runs])
    return over_runs.mean if over_runs else None
