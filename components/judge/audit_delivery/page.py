"""How is an audit of delivery read in a browser? Each ad's variance beside what chance alone would do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.judge.audit_delivery.report import Delivery
from components.pages.document import picture
from components.pages.document import render as page_of
from components.pages.plots import BLUE, GREY, ORANGE, new_figure, save, style_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 30
"""Ads that are drawn."""


@dataclass(frozen=True)
class _View:
    report: Delivery
    image: str


def render(report: Delivery, drawn: Path) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere. `drawn` is the file of `draw`."""
    return page_of(__file__, _View(report, picture(drawn)))


def draw(report: Delivery, path: Path) -> Path:
    """Draw each ad's variance over what chance does, and return the file."""
    return save(_figure(report), path)


def _figure(report: Delivery) -> Figure:
    ads = report.ads[:MOST]
    figure = new_figure(7.5, 1.4 + 0.26 * len(ads))
    axes = figure.add_subplot()
    for row, ad in enumerate(ads):
        axes.plot([0, ad.limit], [row, row], color=GREY, linewidth=6, alpha=0.5, solid_capstyle="butt")
        if ad.variance.low is not None and ad.variance.high is not None:
            axes.plot([ad.variance.low, ad.variance.high], [row, row], color=BLUE, linewidth=1.5)
        axes.plot([ad.variance.value or 0.0], [row], marker="o", markersize=4, color=BLUE)
    axes.axvline(report.at_most, color=ORANGE, linestyle="--", linewidth=1, label="tolerated")
    axes.set_yticks(range(len(ads)), [ad.name for ad in ads], fontsize=8)
    axes.set_ylim(len(ads) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("variance; grey: what chance does")
    axes.set_title(f"{report.ad} by {report.group}")
    style_title(axes)
    axes.legend(fontsize=8, frameon=False)
    return figure
