"""How does drift look? A strip over the days of the window, and the shares behind what moved most."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.judge.watch_drift.report import Cell, Check, Day, Report
from components.pages.plots import BLUE, GREY, INK, ORANGE, new_figure, save, style_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 6
"""Fields whose shares are drawn."""
WIDEST = 20
"""Bins that are drawn: all of a number, of a category those that changed most."""
TOP = 3.0
"""Strength at which a square of the strip has its full colour."""
TITLES: dict[Check, str] = {
    "moved": "values of fields",
    "missing": "missing values",
    "unknown": "unknown values",
    "joined": "same value joined",
    "score": "scores",
    "level": "mean prediction",
    "calibration": "calibration",
    "ranking": "ranking",
    "memory": "error memory",
    "skew": "same answer again",
    "traffic": "traffic",
}
"""What each check looks at, in the order of the strip."""


def draw(folder: Path, report: Report) -> dict[str, Path]:
    """Draw every picture of a report and return the files by title."""
    folder.mkdir()
    files = {"strip": _strip(folder / "strip.png", report)}
    cells = [cell for cell in report.today.cells if cell.bins is not None]
    fields = sorted((cell for cell in cells if cell.check == "moved"), key=lambda cell: -(cell.change or 0.0))[:MOST]
    for name, some in (("fields", fields), ("scores", [cell for cell in cells if cell.check == "score"])):
        if some:
            files[name] = _shares(folder / f"{name}.png", some)
    return files


def worst(day: Day, checks: Collection[Check], false_alarms: float) -> Cell | None:
    """Return the cell of some checks that is nearest to an alarm, None where none was judged."""
    judged = [cell for cell in day.cells if cell.check in checks and cell.state != "not judged"]
    rank = {"alarm": 2, "drifted": 1}
    return max(judged, key=lambda cell: (rank.get(cell.state, 0), cell.strength(false_alarms)), default=None)


def _strip(path: Path, report: Report) -> Path:
    from matplotlib.colors import LinearSegmentedColormap

    days = report.days
    checks = [check for check in TITLES if any(cell.check == check for day in days for cell in day.cells)]
    figure = new_figure(max(6.0, 2.4 + 0.36 * len(days)), 2.2 + 0.3 * len(checks))
    counts, squares = figure.subplots(2, 1, sharex=True, height_ratios=[2, max(1, len(checks)) * 0.6])
    at = np.arange(len(days))
    counts.bar(at, [day.rows for day in days], color=GREY, width=0.8)
    counts.set(title=f"{report.model} v{report.version}: rows per {report.every}", ylabel="rows")
    palette = LinearSegmentedColormap.from_list("change", ["#eef2f7", "#f6c177", ORANGE, "#b42318"], N=64)
    colours = palette.with_extremes(bad="#ffffff")
    level = report.false_alarms
    found = [[worst(day, {check}, level) for day in days] for check in checks]
    values = np.array([[np.nan if one is None else one.strength(level) for one in row] for row in found])
    squares.imshow(values.reshape(-1, len(days)), aspect="auto", cmap=colours, vmin=0, vmax=TOP, interpolation="none")
    for row, cells in enumerate(found):
        for column, cell in enumerate(cells):
            if cell is None:
                squares.text(column, row, "·", ha="center", va="center", color=GREY)
            elif cell.state in ("alarm", "drifted"):
                mark = "●" if cell.state == "alarm" else "○"
                squares.text(column, row, mark, ha="center", va="center", color=INK, fontsize=9)
    squares.set_yticks(range(len(checks)), [TITLES[check] for check in checks], fontsize=8)
    step = max(1, len(days) // 14)
    squares.set_xticks(at[::-1][::step], [f"{days[i].start:%m-%d}" for i in at[::-1][::step]], fontsize=8)
    style_title(counts)
    style_title(squares)
    return save(figure, path)


def _shares(path: Path, cells: Sequence[Cell]) -> Path:
    columns = min(2, len(cells))
    rows = -(-len(cells) // columns)
    figure: Figure = new_figure(4.8 * columns, 2.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, cell in zip(panels, cells, strict=False):
        _bars(panel, cell)
    for panel in panels[len(cells) :]:
        panel.set_visible(False)
    panels[0].legend(fontsize=8, frameon=False)
    return save(figure, path)


def _bars(panel: Any, cell: Cell) -> None:
    if cell.bins is None:
        return
    before, now = np.array(cell.bins.before), np.array(cell.bins.now)
    shown = np.sort(np.argsort(-np.abs(now - before), kind="stable")[:WIDEST])
    at = np.arange(shown.size)
    panel.bar(at - 0.2, before[shown], width=0.4, color=GREY, label="baseline")
    panel.bar(at + 0.2, now[shown], width=0.4, color=BLUE, label="this day")
    names = [cell.bins.names[place] for place in shown]
    every = max(1, shown.size // 7)
    panel.set_xticks(at[::every], [name[:14] for name in names[::every]], rotation=30, ha="right", fontsize=7)
    panel.set(title=cell.of, ylabel="share")
    style_title(panel)
