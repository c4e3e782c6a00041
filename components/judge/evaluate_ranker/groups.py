"""How does a ranker treat the groups that a fairness audit asks about? Figures of each, and who is put first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.judge.evaluate_ranker.rows import Judged
from components.rankers.tasks import Task
from registry.evaluation import GroupCell
from registry.metrics import auc, log_loss, pcoc

Scores = Mapping[str, np.ndarray[Any, Any]]


def judge_groups(rows: Judged, scores: Scores, tasks: Sequence[Task], shown: Scores | None) -> tuple[GroupCell, ...]:
    """Return a cell per task and group; AUC and the top of requests are of `scores`, the rest of those as `shown`."""
    if rows.group is None:
        return ()
    cells = []
    for task in tasks:
        space = rows.space(task)
        first = None
        if rows.request is not None and task.given is None:
            first = first_places(scores[task.name], rows.request)
        for value in np.unique(rows.group).tolist():
            here = space & (rows.group == value)
            y, p = rows.labels[task.label][here], (shown or scores)[task.name][here]
            cells.append(
                GroupCell(
                    task=task.name,
                    group=value,
                    rows=int(here.sum()),
                    positives=int(y.sum()),
                    share=float(here.sum() / max(space.sum(), 1)),
                    top=None if first is None else float(first[here].sum() / first.sum()),
                    auc=auc(y, scores[task.name][here]),
                    log_loss=log_loss(y, p),
                    pcoc=pcoc(y, p),
                )
            )
    return tuple(cells)


def first_places(scores: np.ndarray[Any, Any], request: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what each row has of its request's first place, float64 ``[rows]``: rows of equal score share it."""
    best = np.full(request.max() + 1, -np.inf)
    np.maximum.at(best, request, scores)
    first = (scores == best[request]).astype(np.float64)
    return np.asarray(first / np.bincount(request, weights=first)[request])
