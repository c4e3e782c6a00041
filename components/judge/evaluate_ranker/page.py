"""How is the evaluation read in a browser? One self-contained page: figures as a table, plots inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.pages.document import picture
from components.pages.document import render as page_of
from registry.evaluation import Cell, Evaluation, Metric

TITLES: dict[Metric, str] = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "log-loss",
    "normalised_entropy": "norm. entropy",
    "ece": "ECE",
    "pcoc": "PCOC",
    "mrr": "MRR",
    "ndcg": "NDCG@{top}",
    "hit_rate": "hit rate@{top}",
    "recall": "recall@{top}",
    "request_auc": "request AUC",
}
"""Column heads of the table, in its order; those that no cell has are left out."""


@dataclass(frozen=True)
class _View:
    report: Evaluation
    name: str
    tasks: tuple[tuple[str, tuple[Cell, ...]], ...]
    """Each task with its cells, that of all rows first."""
    titles: dict[Metric, str]
    remarks: tuple[str, ...]
    images: tuple[tuple[str, str], ...]
    """Title and `src` of each plot."""


def render(report: Evaluation, name: str, remarks: Sequence[str], plots: Sequence[Path]) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere."""
    view = _View(
        report=report,
        name=name,
        tasks=tuple((task, tuple(cell for cell in report.cells if cell.task == task)) for task in report.tasks),
        titles={
            metric: title.format(top=report.top)
            for metric, title in TITLES.items()
            if any(metric in cell.metrics for cell in report.cells)
        },
        remarks=tuple(remarks),
        images=tuple((path.stem.replace("_", " "), picture(path)) for path in plots),
    )
    return page_of(__file__, view)
