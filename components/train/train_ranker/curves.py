"""How did training go, as a picture? Loss, AUC and log-loss per epoch, the kept epoch marked; who attends to whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from components.train.train_ranker.attention import MeanAttention
from components.train.train_ranker.config import EpochReport

_WIDE, _HIGH = 12.0, 3.6
"""Inches of the curves."""
_CELL, _LEAST, _MOST = 0.3, 3.4, 8.0
"""Inches of a field in a map, and of the smallest and the largest map."""
_TOLD = 10
"""Most fields of a map whose cells say their number."""


def draw_curves(history: Sequence[EpochReport], path: Path, attention: MeanAttention | None = None) -> None:
    """Write the curves of a training run as PNG, and below them the maps of attention, where there are some."""
    if attention is None:
        figure = Figure(figsize=(_WIDE, _HIGH), layout="constrained")
        _draw(figure, history)
    else:
        heads = max(len(layer) for layer in attention.layers)
        side = min(max(_CELL * len(attention.fields), _LEAST), _MOST) + 0.8
        below = side * len(attention.layers) + 0.5
        figure = Figure(figsize=(max(_WIDE, side * heads), _HIGH + below), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(_HIGH, below))
        _draw(parts[0], history)
        _draw_maps(parts[1], attention, heads)
    figure.savefig(path, dpi=120)


def _draw(figure: Figure | SubFigure, history: Sequence[EpochReport]) -> None:
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


def _draw_maps(figure: SubFigure, attention: MeanAttention, heads: int) -> None:
    """Draw a heat table per layer and head: who attends below each other, to whom beside each other."""
    most = max(cell for layer in attention.layers for head in layer for row in head for cell in row)
    what = (
        f"who (rows) attends to whom (columns), mean of {attention.rows:,} validation rows; the darkest is {most:.2f}"
    )
    figure.suptitle(what, fontsize=10)
    panels = figure.subplots(len(attention.layers), heads, squeeze=False)
    places = range(len(attention.fields))
    size = 8 if len(places) * _CELL <= _MOST else 5
    for number, (layer, line) in enumerate(zip(attention.layers, panels, strict=True), start=1):
        for at, (panel, head) in enumerate(zip(line, layer, strict=False), start=1):
            panel.imshow(head, cmap="Blues", vmin=0, vmax=most, aspect="auto")
            panel.set_title(f"layer {number}, head {at}", fontsize=9)
            panel.set_xticks(places, attention.fields, rotation=90, fontsize=size)
            panel.set_yticks(places, attention.fields if at == 1 else [""] * len(places), fontsize=size)
            if len(places) <= _TOLD:
                _tell(panel, head, most)
    for text in figure.findobj(Text):  # a field named "$x$" is no formula
        text.set_parse_math(False)


def _tell(panel: Any, head: Sequence[Sequence[float]], most: float) -> None:
    for row, cells in enumerate(head):
        for column, cell in enumerate(cells):
            ink = "white" if cell > most / 2 else "black"
            panel.text(column, row, f"{cell:.2f}", ha="center", va="center", fontsize=7, color=ink)


def _finish(axes: Axes, title: str, history: Sequence[EpochReport]) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    best = [report.epoch for report in history if report.best]
    if best:
        axes.axvline(best[-1], color="grey", linestyle=":", linewidth=1)
