"""What does a reader see of a refresh? One page: did compensation help, slot by slot and task by task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from components.pages.document import picture, render
from components.pages.plots import SLATE, TEAL, new_figure, save, style_slots
from components.platform.artifacts import ErrorMemory
from registry.memory.error_memory import MemoryHeader
from registry.memory.prequential import SlotReport

Metric = Literal["log_loss", "auc", "gauc", "pcoc"]
DRAWN: tuple[tuple[Metric, str], ...] = (("log_loss", "log-loss (lower is better)"), ("auc", "AUC (higher is better)"))
TABLED: tuple[tuple[Metric, str], ...] = (("log_loss", "log-loss"), ("auc", "AUC"), ("gauc", "GAUC"), ("pcoc", "PCOC"))


@dataclass(frozen=True)
class _Pair:
    """A metric without and with the memory, and what became of it: better, worse, or empty for neither."""

    base: float | None
    compensated: float | None
    change: str


@dataclass(frozen=True)
class _View:
    header: MemoryHeader
    titles: tuple[str, ...]
    tasks: tuple[tuple[str, tuple[tuple[SlotReport, tuple[_Pair, ...]], ...]], ...]
    """Each task with its slots, and for each slot a pair per title."""
    image: str


def write_report(directory: Path, header: MemoryHeader, slots: tuple[SlotReport, ...]) -> None:
    """Write ``slots.json``, ``slots.png`` and the self-contained ``slots.html``.

    Equal reports give equal bytes.
    """
    (directory / "slots.json").write_bytes(TypeAdapter(tuple[SlotReport, ...]).dump_json(slots, indent=2))
    draw(directory / "slots.png", header, slots)
    view = _View(
        header=header,
        titles=tuple(title for _, title in TABLED),
        tasks=tuple((name, tuple((slot, _pairs(slot, name)) for slot in slots)) for name in header.feedback),
        image=picture(directory / "slots.png"),
    )
    (directory / ErrorMemory.page.file).write_text(render(__file__, view), encoding="utf-8")


def draw(path: Path, header: MemoryHeader, slots: tuple[SlotReport, ...]) -> None:
    """Draw base against compensated per slot, one row of panels per task."""
    figure = new_figure(10, 3.2 * len(header.feedback))
    panels = figure.subplots(len(header.feedback), len(DRAWN), squeeze=False)
    at = [slot.slot for slot in slots]
    for row, name in enumerate(header.feedback):
        for column, (metric, title) in enumerate(DRAWN):
            panel = panels[row][column]
            for label, colour, style in (("base", SLATE, "--"), ("compensated", TEAL, "-")):
                values = [
                    getattr(slot.tasks[name].base if label == "base" else slot.tasks[name].compensated, metric)
                    for slot in slots
                ]
                drawn = [float("nan") if value is None else value for value in values]
                panel.plot(at, drawn, style, color=colour, marker="o", markersize=3.5, label=label)
            style_slots(panel, f"{name}: {title}", last=row == len(header.feedback) - 1)
    panels[0][0].legend(frameon=False, fontsize=9)
    save(figure, path)


def _pairs(slot: SlotReport, task: str) -> tuple[_Pair, ...]:
    found = slot.tasks[task]
    both = [(metric, getattr(found.base, metric), getattr(found.compensated, metric)) for metric, _ in TABLED]
    return tuple(_Pair(base, compensated, _change(metric, base, compensated)) for metric, base, compensated in both)


def _change(metric: Metric, base: float | None, compensated: float | None) -> str:
    if base is None or compensated is None or base == compensated:
        return ""
    if metric == "pcoc":
        better = abs(compensated - 1) < abs(base - 1)
    else:
        better = (compensated < base) == (metric == "log_loss")
    return "better" if better else "worse"
