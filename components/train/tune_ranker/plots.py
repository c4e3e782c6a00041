"""How does a search look? The best value so far over the trials, and every value against what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.pages.plots import BLUE, GREY, ORANGE, new_figure, save, style_title
from components.train.tune_ranker.records import Judge, Record
from components.train.tuned import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
MOST = 12
"""Knobs that are drawn."""


def draw(
    folder: Path, records: Sequence[Record], winner: int, judge: Judge, logarithmic: Sequence[str]
) -> dict[str, Path]:
    """Draw both pictures and return the files by name.

    Args:
        folder: is made.
        records: trials without repeats, by number.
        winner: number of the trial that won.
        judge: how they were judged.
        logarithmic: knobs whose range was searched by orders of magnitude.
    """
    folder.mkdir()
    return {
        "progress": _progress(folder / "progress.png", records, judge),
        "knobs": _knobs(folder / "knobs.png", records, winner, judge, logarithmic),
    }


def _progress(path: Path, records: Sequence[Record], judge: Judge) -> Path:
    from matplotlib.ticker import MaxNLocator

    figure: Figure = new_figure(7.2, 2.8)
    panel = figure.subplots()
    best: list[float] = []
    at: list[int] = []
    for state, colour in (("done", BLUE), ("stopped", GREY)):
        some = [one for one in records if one.state == state and one.value is not None]
        panel.scatter([one.number for one in some], [one.value or 0.0 for one in some], s=18, color=colour, label=state)
    for one in records:
        if one.state == "done" and one.value is not None:
            good = judge.better(one.value)
            best.append(good if not best else max(best[-1], good))
            at.append(one.number)
    if at:
        at.append(max(one.number for one in records))
        best.append(best[-1])
    panel.step(at, [judge.better(value) for value in best], where="post", color=ORANGE, label="best so far")
    panel.set(title=f"{judge.metric} on validation", xlabel="trial")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(fontsize=8, frameon=False)
    style_title(panel)
    return save(figure, path)


def _knobs(path: Path, records: Sequence[Record], winner: int, judge: Judge, logarithmic: Sequence[str]) -> Path:
    paths = sorted({path for one in records for path in one.values})[:MOST]
    rows = -(-len(paths) // COLUMNS)
    figure: Figure = new_figure(3.2 * min(COLUMNS, len(paths)), 2.5 * rows)
    panels = figure.subplots(rows, min(COLUMNS, len(paths)), squeeze=False).ravel()
    for panel, name in zip(panels, paths, strict=False):
        _one(panel, name, records, winner, name in logarithmic)
    for panel in panels[len(paths) :]:
        panel.set_visible(False)
    panels[0].set_ylabel(judge.metric)
    return save(figure, path)


def _one(panel: Any, name: str, records: Sequence[Record], winner: int, log: bool) -> None:
    seen = [(one, one.value) for one in records if one.value is not None]
    values = [one.values.get(name) for one, _ in seen]
    words = sorted({shown(value) for value in values})
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    plain = len(numbers) == len(values)
    at = numbers if plain else [words.index(shown(value)) for value in values]
    colours = [ORANGE if one.number == winner else GREY if one.state == "stopped" else BLUE for one, _ in seen]
    panel.scatter(at, [value for _, value in seen], s=18, c=colours)
    if plain and log:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(lambda value, _: "")
    if not plain:
        panel.set_xticks(range(len(words)), [word[:14] for word in words], rotation=20, ha="right", fontsize=7)
    panel.set_title(name)
    style_title(panel)
