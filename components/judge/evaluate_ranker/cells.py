"""How good are the scores, task by task and domain by domain? One cell each, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from components.judge.evaluate_ranker.config import Config
from components.judge.evaluate_ranker.rows import Judged, describe_space
from components.rankers.tasks import Task
from registry.evaluation import ALL, OF_PROBABILITY, CalibrationBin, Cell, Metric
from registry.metrics import METRICS, REQUEST_METRICS, Requests, bootstrap_all, calibration_bins

KNOWS = 0.999
"""Above this AUC a column knows the label: what people do is not that certain."""
BOTH = 10
"""Of fewer positive or negative rows a perfect order may be luck."""
ENOUGH = 100
"""Where fewer positive or negative rows, or requests, decide a figure, one of them may move it by a point."""


def judge(
    rows: Judged,
    scores: Mapping[str, np.ndarray[Any, Any]],
    tasks: Sequence[Task],
    domains: Sequence[str],
    config: Config,
    shown: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> tuple[tuple[Cell, ...], tuple[CalibrationBin, ...]]:
    """Return a cell and a calibration curve per task × (all rows + each domain); scores are ``[rows]`` by task.

    Metrics of order take the scores. Metrics of probabilities, and the curves, take those for the places that rows were
    `shown` in, where these differ: so do the labels.
    Users are resampled within the rows of a cell. A cell without rows, or of one class, has values
    that are None where they are undefined.
    """
    metrics: tuple[Metric, ...] = METRICS if rows.request is None else (*METRICS, *REQUEST_METRICS)
    order = tuple(metric for metric in metrics if metric not in OF_PROBABILITY)
    shown = scores if shown is None else shown
    cells: list[Cell] = []
    curves: list[CalibrationBin] = []
    for task in tasks:
        for domain, mask in rows.parts(task, domains):
            y, p, user = rows.labels[task.label][mask], shown[task.name][mask], rows.user[mask]
            weights = rows.weights[task.label][mask] if config.weighted and task.label in rows.weights else None
            resampled = partial(
                bootstrap_all,
                resamples=config.bootstrap,
                seed=config.seed,
                confidence=config.confidence,
                bins=config.bins,
                requests=None if rows.request is None else Requests(rows.request[mask], config.top),
                weights=weights,
            )
            if shown is scores:
                found = resampled(y, p, user, metrics)
            else:
                found = resampled(y, scores[task.name][mask], user, order) | resampled(y, p, user, OF_PROBABILITY)
            cells.append(
                Cell(
                    task=task.name,
                    domain=domain,
                    space=describe_space(task),
                    rows=int(mask.sum()),
                    positives=int(y.sum()),
                    requests=None if rows.request is None else np.unique(rows.request[mask][y == 1]).size,
                    metrics={metric: found[metric] for metric in metrics},
                )
            )
            curves += [
                CalibrationBin(
                    task=task.name, domain=domain, predicted=point.predicted, observed=point.observed, rows=point.rows
                )
                for point in calibration_bins(y, p, config.bins, weights)
            ]
    return tuple(cells), tuple(curves)


def remarks(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return a line for each cell whose ranking cannot be judged or believed, and why."""
    lines = []
    known: set[str] = set()
    for cell in cells:  # all rows of a task before its domains
        area, where = cell.metrics["auc"].value, f"{cell.task} in {cell.domain}"
        if area is None:
            lines.append(f"{where}: {cell.positives} of {cell.rows} rows are positive, so its AUC is undefined")
        elif area > KNOWS and min(cell.positives, cell.rows - cell.positives) >= BOTH and cell.task not in known:
            known |= {cell.task} if cell.domain == ALL else set()
            lines.append(
                f"{where}: an AUC of {area:.5g} is hardly ever real; does a column know the label, such as a copy of "
                "it or a value of after the impression? Leave it out of context and of the features"
            )
        lines += _thin(cell) if cell.domain == ALL else ()
    return tuple(lines)


def _thin(cell: Cell) -> Iterator[str]:
    """Yield on how little the figures of a task rest, where that is little."""
    rarer, kind = min((cell.positives, "positive"), (cell.rows - cell.positives, "negative"))
    if 0 < rarer < ENOUGH:
        rows = f"{rarer} {kind} row{'s' if rarer > 1 else ''}"
        yield (
            f"{cell.task}: its figures rest on {rows} of {cell.rows}, one of which alone moves the AUC by up to "
            f"{_short(1 / rarer)}: judge on more rows before you believe a difference"
        )
    if cell.requests is not None and 0 < cell.requests < ENOUGH:
        yield (
            f"{cell.task}: its figures of requests rest on {cell.requests} request{'s' if cell.requests > 1 else ''} "
            f"with a positive row, one of which alone moves MRR by up to {_short(1 / cell.requests)}"
        )


def headline(cell: Cell) -> str:
    """Return one task in a line, e.g. ``like AUC .7123 [.7010, .7236], PCOC 1.02, MRR .4321``."""
    area, ratio = cell.metrics["auc"], cell.metrics["pcoc"].value
    bounds = "" if area.low is None or area.high is None else f" [{_short(area.low)}, {_short(area.high)}]"
    value = "undefined" if area.value is None else _short(area.value) + bounds
    line = f"{cell.task} AUC {value}, PCOC {'undefined' if ratio is None else f'{ratio:.2f}'}"
    if "mrr" not in cell.metrics:
        return line
    rank = cell.metrics["mrr"].value
    return f"{line}, MRR {'undefined' if rank is None else _short(rank)}"


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0") if 0 <= value < 1 else f"{value:.4f}"
