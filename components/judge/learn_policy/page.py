"""How is the learning read in a browser? One self-contained page: its value pass by pass, and what it chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.judge.learn_policy.report import Choice, Learning
from components.pages.document import picture
from components.pages.document import render as page_of
from components.pages.plots import BLUE, GREY, ORANGE, new_figure, save, style_title

MOST = 20
"""Actions of a group that the page lists, those with the largest chance."""


@dataclass(frozen=True)
class _View:
    report: Learning
    name: str
    groups: tuple[tuple[str, tuple[Choice, ...], int], ...]
    """Each group with its likeliest actions and how many others it has."""
    curve: str
    remarks: tuple[str, ...]


def draw(path: Path, report: Learning) -> Path:
    """Write the curve of the value on the validation rows, pass by pass."""
    figure = new_figure(7.5, 2.8)
    axes = figure.add_subplot()
    epochs = [one.epoch for one in report.passes]
    axes.plot(epochs, [one.value for one in report.passes], color=BLUE, label="value (doubly robust)")
    axes.plot(epochs, [one.low for one in report.passes], color=BLUE, linestyle=":", label="lower bound")
    axes.axhline(report.logged, color=GREY, linestyle="--", linewidth=1, label="the log")
    axes.axvline(report.best, color=ORANGE, linewidth=1, label="kept")
    axes.set_title(f"{report.reward} on {report.validation_rows:,} validation rows")
    axes.set_xlabel("passes over the training rows")
    style_title(axes)
    axes.legend(fontsize=8, frameon=False)
    return save(figure, path)


def render(report: Learning, name: str, remarks: Sequence[str], curve: Path) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere."""
    groups = []
    for group in dict.fromkeys(one.group for one in report.choices):
        own = sorted((one for one in report.choices if one.group == group), key=lambda one: (-one.policy, one.action))
        groups.append((group, tuple(own[:MOST]), max(0, len(own) - MOST)))
    return page_of(__file__, _View(report, name, tuple(groups), picture(curve), tuple(remarks)))
