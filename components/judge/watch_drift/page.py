"""What does a reader see of a day? Whether it alarms and why, the strip of the days before it, every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.judge.watch_drift.plots import TITLES, draw, worst
from components.judge.watch_drift.report import Cell, Day, Report, sentence
from components.pages.document import picture, render
from components.platform.artifacts import DriftReport
from registry.evaluation import ALL

CLASSES = {"alarm": "fault", "drifted": "warned", "quiet": "", "not judged": "not-judged"}
"""State → style of its words."""


@dataclass(frozen=True)
class _Row:
    """A comparison of the day as words and numbers."""

    cell: Cell
    title: str
    where: str
    style: str
    said: str


@dataclass(frozen=True)
class _Past:
    """A day of the strip in numbers."""

    day: Day
    rates: str
    state: str
    style: str
    nearest: str


@dataclass(frozen=True)
class _View:
    report: Report
    day: Day
    state: str
    style: str
    alarms: tuple[str, ...]
    drifted: tuple[str, ...]
    lack: str
    """Why nothing but traffic was judged; empty where something was."""
    judged: tuple[_Row, ...]
    left_out: tuple[_Row, ...]
    past: tuple[_Past, ...]
    strip: str
    images: tuple[tuple[str, str], ...]


def write_report(folder: Path, report: Report) -> None:
    """Write `plots/` and the self-contained page; equal reports give equal bytes."""
    files = draw(folder / "plots", report)
    images = tuple((title, picture(files[title])) for title in ("fields", "scores") if title in files)
    page = drift_page(report, picture(files["strip"]), images)
    (folder / DriftReport.page.file).write_text(page, encoding="utf-8")


def drift_page(report: Report, strip: str, images: tuple[tuple[str, str], ...]) -> str:
    """Return the page as HTML, given its pictures as `src`, those of the day by title."""
    day = report.today
    rows = [_row(cell) for cell in day.cells]
    judged = [row for row in rows if row.cell.state != "not judged"]
    judged.sort(key=lambda row: -row.cell.strength(report.false_alarms))
    state = day.state
    view = _View(
        report=report,
        day=day,
        state=state,
        style=CLASSES[state],
        alarms=tuple(f"{sentence(cell)} ({cell.reason})" for cell in day.alarms),
        drifted=tuple(sentence(cell) for cell in day.drifted),
        lack=next((row.cell.reason for row in rows if row.cell.check != "traffic"), "no rows")
        * (state == "not judged"),
        judged=tuple(judged),
        left_out=tuple(row for row in rows if row.cell.state == "not judged"),
        past=tuple(_past(one, report.false_alarms) for one in reversed(report.days)),
        strip=strip,
        images=images,
    )
    return render(__file__, view)


def _row(cell: Cell) -> _Row:
    where = "everywhere" if cell.domain == ALL else cell.domain
    said = cell.reason if cell.state == "not judged" else sentence(cell)
    return _Row(cell=cell, title=TITLES[cell.check], where=where, style=CLASSES[cell.state], said=said)


def _past(day: Day, false_alarms: float) -> _Past:
    state = day.state
    nearest = worst(day, TITLES.keys(), false_alarms)
    return _Past(
        day=day,
        rates=", ".join(f"{name} {rate:.4f}" for name, rate in day.rates.items()),
        state=state,
        style=CLASSES[state],
        nearest="" if nearest is None else _nearest(nearest),
    )


def _nearest(cell: Cell) -> str:
    where = "" if cell.domain == ALL else f" in {cell.domain}"
    return f"{TITLES[cell.check]}: {cell.of}{where}, {cell.times:.1f} times its limit, chance {cell.adjusted or 0:.2g}"
