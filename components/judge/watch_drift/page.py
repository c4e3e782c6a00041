"""What does a reader see of a day? Whether it alarms and why, the strip of the days before it, every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.judge.watch_drift.plots import TITLES, draw, worst
from components.judge.watch_drift.report import Cell, Check, Day, Report, sentence
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
    worst: str


@dataclass(frozen=True)
class _View:
    report: Report
    day: Day
    state: str
    style: str
    alarms: tuple[str, ...]
    drifted: tuple[str, ...]
    judged: tuple[_Row, ...]
    left_out: tuple[_Row, ...]
    past: tuple[_Past, ...]
    strip: str
    images: tuple[tuple[str, str], ...]


def write_report(folder: Path, report: Report) -> None:
    """Write `plots/` and the self-contained page; equal reports give equal bytes."""
    files = draw(folder / "plots", report)
    day = report.today
    rows = [_row(cell) for cell in day.cells]
    judged = sorted((row for row in rows if row.cell.state != "not judged"), key=lambda row: -row.cell.times)
    state = _state(day)
    view = _View(
        report=report,
        day=day,
        state=state,
        style=CLASSES[state],
        alarms=tuple(f"{sentence(cell)} ({cell.reason})" for cell in day.alarms),
        drifted=tuple(sentence(cell) for cell in day.drifted),
        judged=tuple(judged),
        left_out=tuple(row for row in rows if row.cell.state == "not judged"),
        past=tuple(_past(one) for one in reversed(report.days)),
        strip=picture(files["strip"]),
        images=tuple((title, picture(files[title])) for title in ("fields", "scores") if title in files),
    )
    (folder / DriftReport.page.file).write_text(render(__file__, view), encoding="utf-8")


def _state(day: Day) -> str:
    if day.alarms:
        return "alarm"
    if day.drifted:
        return "drifted"
    return "quiet" if any(cell.state == "quiet" for cell in day.cells) else "not judged"


def _row(cell: Cell) -> _Row:
    where = "everywhere" if cell.domain == ALL else cell.domain
    said = cell.reason if cell.state == "not judged" else sentence(cell)
    return _Row(cell=cell, title=TITLES[cell.check], where=where, style=CLASSES[cell.state], said=said)


def _past(day: Day) -> _Past:
    state = _state(day)
    found = [cell for check in TITLES if (cell := worst(day, check)) is not None]
    furthest = max(found, key=lambda cell: (cell.state == "alarm", cell.state == "drifted", cell.times), default=None)
    return _Past(
        day=day,
        rates=", ".join(f"{name} {rate:.4f}" for name, rate in day.rates.items()),
        state=state,
        style=CLASSES[state],
        worst=""
        if furthest is None
        else f"{_title(furthest.check)}: {furthest.of}, {furthest.times:.1f} times its limit",
    )


def _title(check: Check) -> str:
    return TITLES[check]
