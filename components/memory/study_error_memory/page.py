"""What does a reader see of the study? One page: four learners over the period, then slot by slot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.memory.study_error_memory.report import (
    METRICS,
    VARIANTS,
    PeriodMetric,
    SlotTask,
    StudyMetric,
    StudyReport,
    Variant,
)
from components.pages.document import picture, render
from components.pages.plots import BLUE, ORANGE, SLATE, TEAL, new_figure, save, style_slots
from components.platform.artifacts import MemoryStudy

TITLES: dict[StudyMetric, str] = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log-loss", "pcoc": "PCOC"}
PERIOD_TITLES: dict[PeriodMetric, str] = {
    "auc": "AUC",
    "gauc": "GAUC",
    "gauc_in_slot": "GAUC in slot",
    "log_loss": "log-loss",
    "pcoc": "PCOC",
}
NAMES: dict[Variant, str] = {
    "base": "base",
    "memory": "base + memory",
    "incremental": "incremental training",
    "both": "incremental + memory",
}
_STYLES: dict[Variant, tuple[str, str, float]] = {
    "memory": (TEAL, "-", 2.8),
    "incremental": (ORANGE, "-", 2.8),
    "both": (BLUE, "-", 1.3),
    "base": (SLATE, "--", 1.3),
}
"""Colour, dashes and width, in the order of drawing: a memory of weight 0 lies on its learner, which stays visible."""
_AIM: dict[StudyMetric, str] = {
    "auc": " − base (higher is better)",
    "gauc": " − base (higher is better)",
    "log_loss": " − base (lower is better)",
    "pcoc": " (1 is right)",
}


@dataclass(frozen=True)
class _View:
    report: StudyReport
    titles: dict[StudyMetric, str]
    period: dict[PeriodMetric, str]
    names: dict[Variant, str]
    variants: tuple[Variant, ...]
    image: str


def write_page(directory: Path, report: StudyReport) -> None:
    """Write ``slots.png`` and the self-contained ``report.html``; equal reports give equal bytes."""
    draw(directory / "slots.png", report)
    view = _View(report, TITLES, PERIOD_TITLES, NAMES, VARIANTS, picture(directory / "slots.png"))
    (directory / MemoryStudy.page.file).write_text(render(__file__, view), encoding="utf-8")


def draw(path: Path, report: StudyReport) -> None:
    """Draw the metrics per slot, one row of panels per metric and one column per task.

    Slots differ far more than learners do, so all but PCOC is drawn as the difference from the base.
    """
    figure = new_figure(5.5 * len(report.tasks), 2.6 * len(METRICS))
    panels = figure.subplots(len(METRICS), len(report.tasks), squeeze=False, sharex=True)
    at = [slot.slot for slot in report.slots]
    for row, metric in enumerate(METRICS):
        for column, task in enumerate(report.tasks):
            panel = panels[row][column]
            for variant, (colour, style, width) in _STYLES.items():
                drawn = [_drawn(slot.tasks[task], variant, metric) for slot in report.slots]
                panel.plot(
                    at, drawn, style, color=colour, marker="o", markersize=3, linewidth=width, label=NAMES[variant]
                )
            if metric == "pcoc":
                panel.axhline(1.0, color="#d1d5db", linewidth=1, zorder=0)
            style_slots(panel, f"{task}: {TITLES[metric]}{_AIM[metric]}", last=row == len(METRICS) - 1)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=4)
    save(figure, path)


def _drawn(found: SlotTask, variant: Variant, metric: StudyMetric) -> float:
    value, base = found.metrics[variant][metric], found.metrics["base"][metric]
    if value is None or base is None:
        return float("nan")
    return value if metric == "pcoc" else value - base
