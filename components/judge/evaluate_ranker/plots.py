"""What does the evaluation look like? Calibration, ranking per domain and scores, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from components.judge.evaluate_ranker.rows import Judged
from components.pages.plots import BLUE, GREY, INK, ORANGE, new_figure, save, style_title
from components.rankers.tasks import Task
from registry.evaluation import ALL, Cell, Evaluation

MOST_DOMAINS = 30
"""Domains that one picture shows; those with the most rows."""


def draw(
    directory: Path,
    report: Evaluation,
    rows: Judged,
    scores: Mapping[str, np.ndarray[Any, Any]],
    tasks: Sequence[Task],
) -> tuple[Path, ...]:
    """Write the plots and return their files in reading order; scores are ``[rows]`` probabilities by task."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for task in tasks:
        files.append(_saved(_calibration(report, task), directory / f"calibration_{task.name}.png"))
    if report.domains:
        files.append(_saved(_by_domain(report), directory / "auc_by_domain.png"))
    files.append(_saved(_histograms(rows, scores, tasks), directory / "scores.png"))
    return tuple(files)


def _calibration(report: Evaluation, task: Task) -> Figure:
    figure = new_figure(3.5, 3.3)
    axes = figure.add_subplot()
    curves: dict[str, list[tuple[float, float]]] = {}
    for bin_ in report.calibration:
        if bin_.task == task.name:
            curves.setdefault(bin_.domain, []).append((bin_.predicted, bin_.observed))
    shown = {ALL, *_largest(report, task.name, 6)}
    top = max([x for name, curve in curves.items() if name in shown for point in curve for x in point], default=1.0)
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle="--", label="perfect")
    for domain, curve in curves.items():
        if domain not in shown:
            continue
        x, y = zip(*curve, strict=True)
        if domain == ALL:
            axes.plot(x, y, marker="o", markersize=4, color=BLUE, linewidth=2, label="all", zorder=3)
        else:
            axes.plot(x, y, linewidth=1, alpha=0.6, label=domain)
    axes.set(xlabel="predicted", ylabel="observed", title=f"Calibration of {task.name}")
    axes.legend(fontsize=8, frameon=False)
    return figure


def _by_domain(report: Evaluation) -> Figure:
    shown = [ALL, *_largest(report, report.tasks[0], MOST_DOMAINS)]
    figure = new_figure(3.2 * len(report.tasks) + 1.0, 0.9 + 0.34 * (len(shown) + 1))
    panels = figure.subplots(1, len(report.tasks), sharey=True, squeeze=False)[0]
    for panel, task in zip(panels, report.tasks, strict=True):
        for row, domain in enumerate(shown):
            _whisker(panel, row, report.cell(task, domain))
        panel.axvline(0.5, color=GREY, linewidth=1, linestyle="--")
        panel.set_yticks(range(len(shown)), shown)
        panel.set_ylim(len(shown) - 0.5, -0.5)
        panel.set(title=task, xlabel="AUC")
    return figure


def _whisker(panel: Any, row: int, cell: Cell) -> None:
    area = cell.metrics["auc"]
    if area.value is None:
        panel.text(0.5, row, " one class", va="center", fontsize=8, color=GREY)
        return
    colour = BLUE if cell.domain == ALL else INK
    if area.low is not None and area.high is not None:
        panel.plot([area.low, area.high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
    panel.plot([area.value], [row], marker="o", markersize=5, color=colour)


def _histograms(rows: Judged, scores: Mapping[str, np.ndarray[Any, Any]], tasks: Sequence[Task]) -> Figure:
    figure = new_figure(3.5 * len(tasks) + 0.2, 2.8)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    edges = np.linspace(0, 1, 41)
    for panel, task in zip(panels, tasks, strict=True):
        space = rows.space(task)
        p, y = scores[task.name][space], rows.labels[task.label][space]
        for value, name, colour in ((0, "negative", GREY), (1, "positive", ORANGE)):
            counts = np.histogram(p[y == value], bins=edges)[0]
            panel.stairs(counts / max(1, counts.sum()), edges, fill=True, alpha=0.5, color=colour, label=name)
        panel.set(title=task.name, xlabel="score", ylabel="share of rows")
        panel.legend(fontsize=8, frameon=False)
    return figure


def _largest(report: Evaluation, task: str, count: int) -> list[str]:
    by_rows = sorted(report.domains, key=lambda domain: (-report.cell(task, domain).rows, domain))
    return sorted(by_rows[:count])


def _saved(figure: Figure, path: Path) -> Path:
    for panel in figure.axes:
        style_title(panel)
    return save(figure, path)
