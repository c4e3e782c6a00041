"""Do the calibrated probabilities hold? Each task in each domain, before and after, on validation and on test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from components.judge.evaluate_ranker.rows import Judged, judged, role_columns
from components.rankers.tasks import Task
from features.ground.pace import Report
from features.joins.row_file import RowFile
from registry.evaluation import ALL
from registry.metrics import ece, log_loss, pcoc
from registry.serving.answers.by_block import said
from registry.serving.model.served_model import ServedModel
from registry.serving.scores.calibration import Calibration, CalibrationCell, Floats, Identity, Stage

Measured = Literal["validation", "test"]
"""Splits that are measured: the curves were fitted on the first, the second is only reported."""


@dataclass(frozen=True)
class Answered:
    """What the graph answers to a split, and what came true."""

    split: Measured
    roles: pa.Table
    """Roles of its rows, the domain among them."""
    rows: Judged
    """Labels and domains of the rows."""
    scores: dict[str, Floats]
    """float64 ``[rows]`` answers by task, before calibration."""


def answered(graph: ServedModel, split: Measured, file: RowFile, report: Report | None = None) -> Answered:
    """Score the raw rows of a split with the graph, a model without calibration; `report` is told how far it is."""
    declaration = graph.contract.schema_.declaration
    roles = file.read(role_columns(file.column_names, declaration))
    return Answered(split, roles, judged(roles, declaration), said(graph, file, report=report).base)


def cells_of(
    graph: ServedModel, calibration: Calibration, answers: Iterable[Answered], tasks: Sequence[Task]
) -> tuple[CalibrationCell, ...]:
    """Return one cell per split × task × (all rows + each domain) that has rows."""
    model = replace(graph, calibration=calibration)
    return tuple(cell for found in answers for cell in _of_split(model, found, tasks))


def headline(cells: Iterable[CalibrationCell], task: str) -> Iterator[str]:
    """Yield one line per split about a task over all rows, and one about the domain that was furthest off."""
    for split in get_args(Measured):
        own = [cell for cell in cells if (cell.split, cell.task) == (split, task) and cell.rows]
        for cell in own:
            if cell.domain == ALL:
                yield f"{split} {task}: {_change(cell)}"
        domains = [cell for cell in own if cell.domain != ALL and cell.pcoc[0]]
        if domains:
            worst = max(domains, key=lambda cell: abs(np.log(cell.pcoc[0] or 1.0)))
            yield f"{split} {task} in {worst.domain}, which was furthest off: {_change(worst)}"


def own_curves(stage: Stage, method: str, domains: Sequence[str]) -> str:
    """Return one line that says which rows each curve of a stage was fitted on."""
    if isinstance(stage.pooled, Identity):
        pooled = "too few rows of either label, left as the graph answers"
    else:
        pooled = f"{method} on every row"
    total = len({*domains, *stage.domains})
    return f"{stage.task}: {pooled}" + (
        f"; {len(stage.domains)} of {total} domains have a curve of their own" * (total > 0)
    )


def _of_split(model: ServedModel, found: Answered, tasks: Sequence[Task]) -> Iterator[CalibrationCell]:
    rows, before, after = found.rows, found.scores, model.calibrated(found.scores, found.roles)
    for task in tasks:
        for domain, mask in rows.parts(task, rows.domains(())):
            if mask.any():
                y = rows.labels[task.label][mask]
                yield _cell(found.split, task.name, domain, y, before[task.name][mask], after[task.name][mask])


def _cell(split: Measured, task: str, domain: str, y: Floats, before: Floats, after: Floats) -> CalibrationCell:
    return CalibrationCell(
        split=split,
        task=task,
        domain=domain,
        rows=y.size,
        positives=int(y.sum()),
        pcoc=(pcoc(y, before), pcoc(y, after)),
        ece=(ece(y, before), ece(y, after)),
        log_loss=(log_loss(y, before), log_loss(y, after)),
    )


def _change(cell: CalibrationCell) -> str:
    def arrow(pair: tuple[float | None, float | None], digits: int) -> str:
        return " → ".join("–" if value is None else f"{value:.{digits}f}" for value in pair)

    return f"PCOC {arrow(cell.pcoc, 3)}, ECE {arrow(cell.ece, 4)}, log-loss {arrow(cell.log_loss, 4)}"
