"""How did training go, as a picture? Loss, AUC and log-loss per epoch, the kept epoch marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.train.train_ranker.config import EpochReport


def draw_curves(history: Sequence[EpochReport], path: Path) -> None:
    """Write the curves of a training run as PNG."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, area, log_loss = figure.subplots(1, 3)
    epochs = [report.epoch for report in history]
    loss.plot(epochs, [report.train_loss for report in history], marker="o", color="black")
    _finish(loss, "training loss", history)
    for axes, metric, title in ((area, "auc", "validation AUC"), (log_loss, "log_loss", "validation log-loss")):
        for name in sorted({name for report in history for name in report.metrics if name.endswith(f"/{metric}")}):
            values = [report.metrics.get(name, float("nan")) for report in history]
            axes.plot(epochs, values, marker="o", label=name.split("/")[1])
        if axes.lines:
            axes.legend(frameon=False, fontsize="small")
        _finish(axes, title, history)
    figure.savefig(path, dpi=120)


def _finish(axes: Axes, title: str, history: Sequence[EpochReport]) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    best = [report.epoch for report in history if report.best]
    if best:
        axes.axvline(best[-1], color="grey", linestyle=":", linewidth=1)
