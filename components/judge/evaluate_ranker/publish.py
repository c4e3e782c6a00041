"""How do scores become a report, and how do its figures reach MLflow? Cells, curves, `report.json`, plots and page.

Whatever scored the rows, a graph or trees, is judged and shown in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.judge.evaluate_ranker.cells import judge, remarks
from components.judge.evaluate_ranker.config import Config
from components.judge.evaluate_ranker.groups import judge_groups
from components.judge.evaluate_ranker.page import render
from components.judge.evaluate_ranker.plots import draw
from components.judge.evaluate_ranker.rows import Judged
from components.platform.artifacts import EvaluationReport
from components.platform.errors import BadInputError
from components.rankers.tasks import Task
from features.declaration import JudgeBy
from registry.evaluation import ALL, Evaluation, metric_name
from registry.versions.tracking import TrackedRun

FOLDER = "evaluation"
"""Folder of the training's MLflow run that takes the page and the plots."""
_FORBIDDEN = re.compile(r"[^\w\-.: ]|^\.*$")
"""What may not stand in a part of a metric's name; MLflow also refuses empty parts and dots alone."""


@dataclass(frozen=True)
class Scored:
    """Who gave which answers to which rows."""

    name: str
    model_digest: str
    dataset_digest: str
    """Digest of the training set that the rows are a split of."""
    provider: str
    rows: Judged
    """Labels, users, domains."""
    scores: Mapping[str, np.ndarray[Any, Any]]
    """``[rows]`` probabilities by task."""
    tasks: Sequence[Task]
    shown: Mapping[str, np.ndarray[Any, Any]] | None
    """The same for the places that rows were shown in; None where the training set declares no position."""
    domains: tuple[str, ...]
    """Domain values, each a row of the report."""
    judge_by: JudgeBy = "auc"
    """Metric that rankers of this training set are judged by."""
    group: str | None = None
    """Column that a fairness audit asks about."""
    freshness: str = ""
    """How old the features of the rows were; empty where the training set does not say."""


def write_report(draft: Path, scored: Scored, config: Config) -> Evaluation:
    """Judge the answers and write `report.json`, `plots/` and `report.html`.

    Raises:
        BadInputError: rows should count by their weights, and have none.
    """
    rows = scored.rows
    if config.weighted and not rows.weights:
        raise BadInputError(
            f"weighted: rows of the {config.split} split have no weights: declare some in build_training_set, or leave "
            "weighted out"
        )
    cells, calibration = judge(rows, scored.scores, scored.tasks, scored.domains, config, scored.shown)
    report = Evaluation(
        model_digest=scored.model_digest,
        dataset_digest=scored.dataset_digest,
        split=config.split,
        rows=rows.user.size,
        window_start=rows.start,
        window_end=rows.end,
        confidence=config.confidence,
        resamples=config.bootstrap,
        top=None if rows.request is None else config.top,
        weighted=tuple(rows.weights) if config.weighted else (),
        provider=scored.provider,
        tasks=tuple(task.name for task in scored.tasks),
        domains=scored.domains,
        cells=cells,
        calibration=calibration,
        judge_by=scored.judge_by,
        freshness=scored.freshness,
        group=scored.group,
        groups=judge_groups(rows, scored.scores, scored.tasks, scored.shown),
    )
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    plots = draw(draft / "plots", report, rows, scored.shown or scored.scores, scored.tasks)
    (draft / EvaluationReport.page.file).write_text(
        render(report, scored.name, remarks(cells), plots), encoding="utf-8"
    )
    return report


def weighted_note(report: Evaluation) -> tuple[str, ...]:
    """Return a line that says for which feedback rows count by their weights, where they do."""
    return (f"rows count by their weights for {', '.join(report.weighted)}",) if report.weighted else ()


def log_evaluation(run: TrackedRun, report: Evaluation, directory: Path) -> None:
    """Write figures, page and plots to the run of the training; the same call again changes nothing.

    Raises:
        RetryableError: MLflow could not be reached or written.
    """
    run.log_metrics(metric_values(report))
    run.log_files(directory / EvaluationReport.page.file, FOLDER)
    run.log_files(directory / "plots", f"{FOLDER}/plots")


def metric_values(report: Evaluation) -> dict[str, float]:
    """Return every defined value by its MLflow name: ``<split>/<task>/<metric>``, with the domain before the metric.

    Those of a group have ``group/<value>`` there.
    """
    values: dict[str, float] = {}
    for cell in report.cells:
        where = f"{report.split}/{cell.task}" + ("" if cell.domain == ALL else f"/{_FORBIDDEN.sub('_', cell.domain)}")
        values |= {
            f"{where}/{metric_name(metric, report.top)}": interval.value
            for metric, interval in cell.metrics.items()
            if interval.value is not None
        }
    for group in report.groups:
        where = f"{report.split}/{group.task}/group/{_FORBIDDEN.sub('_', group.group)}"
        found = {name: getattr(group, name) for name in ("share", "top", "auc", "log_loss", "pcoc")}
        values |= {f"{where}/{name}": value for name, value in found.items() if value is not None}
    return values
