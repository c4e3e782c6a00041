"""What do the estimates look like? One picture per group: every policy and estimator with its interval."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.figure import Figure

from components.judge.simulate_policy.report import PolicyValue, Simulation
from components.pages.plots import BLUE, GREY, ORANGE, new_figure, save, style_title


def draw(directory: Path, report: Simulation) -> tuple[Path, ...]:
    """Write one plot per group of rows and return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    groups = dict.fromkeys(value.group for value in report.values)
    files = []
    for number, group in enumerate(groups):
        path = directory / f"{number:02d}_{re.sub(r'[^A-Za-z0-9]+', '_', group)}.png"
        files.append(save(_picture([value for value in report.values if value.group == group], report), path))
    return tuple(files)


def _picture(values: list[PolicyValue], report: Simulation) -> Figure:
    lines = [(value, name) for value in values for name in value.estimates]
    figure = new_figure(7.5, 1.4 + 0.26 * len(lines))
    axes = figure.add_subplot()
    for row, (value, name) in enumerate(lines):
        found = value.estimates[name]
        if found.value is None:
            continue
        colour = GREY if name.startswith("direct") else BLUE
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([found.value], [row], marker="o", markersize=4, color=colour)
    start = 0
    for value in values:
        end = start + len(value.estimates)
        if value.on_policy is not None and value.on_policy.value is not None:
            label = f"{value.policy}, in its own log"
            axes.plot([value.on_policy.value] * 2, [start - 0.4, end - 0.6], color=ORANGE, linewidth=2, label=label)
        axes.axhline(end - 0.5, color="#e4e7eb", linewidth=1)
        start = end
    if values[0].logged.value is not None:
        axes.axvline(values[0].logged.value, color=GREY, linestyle="--", linewidth=1, label="the judged log")
    axes.set_yticks(range(len(lines)), [f"{value.policy} · {name}" for value, name in lines], fontsize=8)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_title(f"{values[0].group}: {values[0].rows:,} rows, {values[0].candidates} candidates")
    axes.set_xlabel(f"mean {report.reward}")
    style_title(axes)
    axes.legend(fontsize=8, frameon=False)
    return figure
