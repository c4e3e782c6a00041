"""How is an attribution read in a browser? Effects first, touches beside them with what they are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.judge.attribute_conversions.report import Attribution, Channel
from components.pages.document import picture
from components.pages.document import render as page_of
from components.pages.plots import BLUE, GREY, ORANGE, new_figure, save, style_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20
"""Channels that are drawn."""


@dataclass(frozen=True)
class _View:
    report: Attribution
    name: str
    image: str


def render(report: Attribution, name: str, drawn: Path) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere. `drawn` is the file of `draw`."""
    return page_of(__file__, _View(report, name, picture(drawn)))


def draw(report: Attribution, path: Path) -> Path:
    """Draw effects and touches side by side, and return the file."""
    return save(_figure(report), path)


def _figure(report: Attribution) -> Figure:
    channels = report.channels[:MOST]
    figure = new_figure(8, 1.4 + 0.34 * max(1, len(channels)))
    effects, touches = figure.subplots(1, 2, sharey=True)
    for row, channel in enumerate(channels):
        _line(effects, row, channel)
        touches.plot([channel.touches], [row], marker="s", markersize=4, color=GREY, linestyle="none")
        touches.plot([channel.last], [row], marker="x", markersize=5, color=ORANGE, linestyle="none")
    effects.axvline(0, color=GREY, linewidth=1)
    effects.set_yticks(range(len(channels)), [channel.name for channel in channels], fontsize=8)
    effects.set_ylim(max(1, len(channels)) - 0.5, -0.5)
    effects.set_title("effect: conversions that would be missing")
    touches.set_title("no effect: share of touches (■), last touches (×)")
    touches.set_xlim(0, 1)
    for axes in (effects, touches):
        style_title(axes)
    return figure


def _line(axes: object, row: int, channel: Channel) -> None:
    plot = axes.plot  # type: ignore[attr-defined]  # axes
    if channel.effect.low is not None and channel.effect.high is not None:
        plot([channel.effect.low, channel.effect.high], [row, row], color=BLUE, linewidth=2, solid_capstyle="round")
    plot([channel.effect.value or 0.0], [row], marker="o", markersize=4, color=BLUE)
