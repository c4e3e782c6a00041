"""What does a reader see of a search over pairs? What was chosen as a matrix, and what each way of a pair is worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.pages.document import picture, render
from components.pages.plots import BLUE, GREY, INK, ORANGE, new_figure, save, style_title
from components.platform.artifacts import Architecture
from components.train.searched import Gain, Mode, PairChoice, Searched

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: dict[Mode, str] = {"naive": "#eef1f4", "memorise": BLUE, "factorise": ORANGE}
LETTERS = 18
"""Letters of a field's name that a picture has room for."""


@dataclass(frozen=True)
class _View:
    found: Searched
    pairs: tuple[PairChoice, ...]
    """Those that do something first, by what they are worth."""
    chosen: int
    matrix: str


def write_page(folder: Path, found: Searched) -> None:
    """Write `plots/matrix.png` and the self-contained page; equal searches give equal bytes."""
    (folder / "plots").mkdir()
    file = draw(folder / "plots" / "matrix.png", found)
    (folder / Architecture.page.file).write_text(page_of(found, picture(file)), encoding="utf-8")


def page_of(found: Searched, matrix: str) -> str:
    """Return the page as HTML, given its picture as `src`."""
    pairs = sorted(found.pairs, key=lambda each: (each.chosen == "naive", -_worth(each).mean))
    chosen = sum(each.chosen != "naive" for each in pairs)
    return render(__file__, _View(found, tuple(pairs), chosen, matrix))


def _worth(each: PairChoice) -> Gain:
    """Return the gain of what was chosen for a pair, of nothing that of the better way."""
    if each.chosen == "naive":
        return max(each.memorise, each.factorise, key=lambda gain: gain.mean)
    return each.memorise if each.chosen == "memorise" else each.factorise


def draw(path: Path, found: Searched) -> Path:
    """Draw the fields against each other, a square per pair, and return the file."""
    from matplotlib.patches import Patch, Rectangle

    fields = list(dict.fromkeys(name for each in found.pairs for name in each.pair))
    side = max(3.2, 0.55 * len(fields))
    figure: Figure = new_figure(side + 3.0, side + 0.6)
    panel = figure.subplots()
    for each in found.pairs:
        column, row = (fields.index(name) for name in each.pair)
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=COLOURS[each.chosen], edgecolor="white"))
        quiet = each.chosen == "naive"
        worth = f"{round(1000 * _worth(each).mean, 1) + 0.0:.1f}"  # no −0.0
        panel.text(column, row, worth, ha="center", va="center", fontsize=7, color=GREY if quiet else INK)
    names = [name[:LETTERS] for name in fields]
    panel.set_xticks(range(len(fields)), names, rotation=45, ha="right", fontsize=8)
    panel.set_yticks(range(len(fields)), names, fontsize=8)
    panel.set(xlim=(-0.5, len(fields) - 1.5), ylim=(len(fields) - 0.5, 0.5), aspect="equal")
    panel.set_title("thousandths of a nat that each pair is worth")
    panel.legend(
        handles=[Patch(facecolor=colour, label=mode) for mode, colour in COLOURS.items()],
        fontsize=8, frameon=False, loc="upper right",
    )  # fmt: skip
    style_title(panel)
    return save(figure, path)
