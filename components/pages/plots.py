"""How do the pictures of reports look? Their colours, their frame, and files that equal figures make equal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, BLUE, ORANGE, GREY = "#1f2933", "#1f6feb", "#d9730d", "#9aa5b1"
SLATE, TEAL = "#6b7280", "#0f766e"
"""A base model and its error memory, in every picture of both."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that is drawn into a PNG file; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_title(panel: Any) -> None:
    """Give a panel's title its size and colour, and take the frame's upper and right side away."""
    panel.title.set_fontsize(10)
    panel.title.set_color(INK)
    panel.spines[["top", "right"]].set_visible(False)


def style_slots(panel: Any, title: str, *, last: bool) -> None:
    """Title a panel over slots of time: whole numbers below, lines across, words below the last of a column."""
    from matplotlib.ticker import MaxNLocator

    panel.set_title(title, fontsize=10, loc="left")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(axis="y", color="#e5e7eb")
    panel.spines[["top", "right"]].set_visible(False)
    if last:
        panel.set_xlabel("slot of time")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, its texts as they are, and return the file."""
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):  # a domain named "$x$" is no formula
        text.set_parse_math(False)
    # Without the library's version in the file, equal figures are equal bytes on every patch release.
    with matplotlib.rc_context({"text.parse_math": False}):  # ticks that come to be now
        figure.savefig(path, metadata={"Software": None})
    return path
