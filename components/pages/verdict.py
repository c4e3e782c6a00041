"""Which cell let the challenger through or held it back? The verdict as one self-contained page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from components.pages.document import render as page_of
from registry.evaluation import ALL
from registry.gate.decide import worst_of
from registry.gate.verdict import Judgement, Verdict

_HEADINGS: dict[str, str] = {
    "auc": "AUC, challenger − champion",
    "log_loss": "Log-loss, relative difference",
    "rate": "Share of rows with the feedback, relative difference",
    "auc floor": "AUC floor",
    "pcoc floor": "Calibration floor (predicted / observed)",
}


@dataclass(frozen=True)
class _Bar:
    """A difference drawn on a line: positions in per cent of its width."""

    left: float
    width: float
    value: float
    zero: float
    limit: float


@dataclass(frozen=True)
class _Grid:
    """The judgements of one metric: a row per task, a column per domain."""

    heading: str
    domains: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Judgement, _Bar | None] | None, ...]], ...]


@dataclass(frozen=True)
class _View:
    verdict: Verdict
    grids: tuple[_Grid, ...]
    worst: Judgement | None
    every: str
    """The domain that stands for all rows."""
    drawn: bool
    compared: bool
    fewest: int
    most: int


def render(verdict: Verdict) -> str:
    """Return the page as HTML without scripts or outside resources."""
    grids = _grids(verdict.judgements)
    resamples = [j.resamples for j in verdict.judgements if j.resamples]
    view = _View(
        verdict=verdict,
        grids=grids,
        worst=worst_of(verdict.judgements),
        every=ALL,
        drawn=any(cell is not None and cell[1] for grid in grids for _, cells in grid.rows for cell in cells),
        compared=any(j.champion is not None for j in verdict.judgements),
        fewest=min(resamples, default=0),
        most=max(resamples, default=0),
    )
    return page_of(__file__, view)


def _grids(judgements: tuple[Judgement, ...]) -> tuple[_Grid, ...]:
    grids = []
    for metric in dict.fromkeys([*_HEADINGS, *(j.metric for j in judgements)]):
        mine = {(j.task, j.domain): j for j in judgements if j.metric == metric}
        if not mine:
            continue
        tasks = list(dict.fromkeys(task for task, _ in mine))
        domains = tuple(sorted({domain for _, domain in mine}, key=lambda domain: (domain != ALL, domain)))
        reach = _reach(mine.values())
        rows = tuple(
            (task, tuple((mine[task, d], _bar(mine[task, d], reach)) if (task, d) in mine else None for d in domains))
            for task in tasks
        )
        name = metric.replace("_", " ")
        default = name if metric.endswith(" floor") else f"{name}, challenger − champion"
        grids.append(_Grid(_HEADINGS.get(metric, default), domains, rows))
    return tuple(grids)


def _reach(judgements: Collection[Judgement]) -> float:
    """Return the largest distance from zero that a grid has to show; wide bars that decide nothing are cut off."""
    judged = [j for j in judgements if j.outcome != "not judged"] or list(judgements)
    found = [1e-6]
    for judgement in judged:
        difference = judgement.difference
        values = (difference.low, difference.high, difference.value, judgement.limit) if difference else ()
        found += [abs(value) for value in values if value is not None]
    return max(found) * 1.08


def _bar(judgement: Judgement, reach: float) -> _Bar | None:
    difference = judgement.difference
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        return None

    def at(value: float) -> float:
        return round(min(max(50 + 50 * value / reach, 0.0), 100.0), 2)

    low, high = at(difference.low), at(difference.high)
    return _Bar(left=low, width=max(high - low, 0.8), value=at(difference.value), zero=50.0, limit=at(judgement.limit))
