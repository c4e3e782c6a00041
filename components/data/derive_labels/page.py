"""How are derived labels read in a browser? What each says of the number that it must not speak of, group by group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.derive_labels.config import MadeLabel, MadeLabels
from components.pages.document import picture
from components.pages.document import render as page_of
from components.pages.plots import BLUE, GREY, ORANGE, SLATE, TEAL, new_figure, save, style_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, TEAL, SLATE, GREY)


@dataclass(frozen=True)
class _View:
    report: MadeLabels
    labels: tuple[tuple[MadeLabel, str], ...]
    """Each label with the `src` of its picture."""


def render(report: MadeLabels, scratch: Path) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere. Pictures are drawn in `scratch`."""
    drawn = [
        (label, picture(save(_figure(label), scratch / f"label_{place}.png")))
        for place, label in enumerate(report.labels)
    ]
    return page_of(__file__, _View(report, tuple(drawn)))


def _figure(label: MadeLabel) -> Figure:
    figure = new_figure(7.5, 3.2)
    axes = figure.add_subplot()
    places = range(1, len(label.groups) + 1)
    for place, name in enumerate(label.groups[0].rates):
        rates = [group.rates[name][0] or 0.0 for group in label.groups]
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(
            places, rates, color=colour, linewidth=2.5 if place == 0 else 1.2, marker="o", markersize=3, label=name
        )
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"groups of {label.rule.within}, the smallest first")
    axes.set_ylabel("share with the label")
    axes.set_title(f"{label.name}: rows that groups were cut on")
    style_title(axes)
    axes.legend(fontsize=8, frameon=False)
    return figure
