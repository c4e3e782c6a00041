"""What does a watch find? One cell per thing that was compared on a day, and which of them are alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import AwareDatetime, Field

from features.declaration import Frozen, Window
from registry.evaluation import ALL

Check = Literal[
    "moved", "missing", "unknown", "joined", "score", "level", "calibration", "ranking", "memory", "skew", "traffic"
]
State = Literal["quiet", "drifted", "alarm", "not judged"]
SURE = 3.0
"""A change this many times its limit alarms at once; a smaller one must be there on two days in a row."""

TINY = 1e-300
"""A chance that is no zero."""


class Bins(Frozen):
    """Shares behind a cell, for its picture."""

    names: tuple[str, ...]
    """What each bin holds, in words."""
    before: tuple[float, ...]
    """Shares of the baseline."""
    now: tuple[float, ...]
    """Shares of the day."""


class Cell(Frozen):
    """One thing that was compared."""

    check: Check
    of: str
    """Field, task, or what is counted."""
    domain: str = ALL
    rows: int
    """Rows that tell it."""
    now: float | None = None
    """The figure of the day: PSI, a share, a mean, PCOC, AUC, relative log-loss, a count."""
    before: float | None = None
    """What it is compared with; None where the figure is itself a comparison."""
    distance: float | None = Field(None, exclude_if=lambda distance: distance is None)
    """Beside a PSI: of scores the largest distance of the two distribution functions (Kolmogorov and Smirnov), of a
    field the total variation."""
    change: float | None = None
    """How far it is in the direction that harms, on the scale of the limit (of a PSI what is more than chance gives);
    None where it cannot be judged."""
    limit: float
    """The largest change that nobody minds."""
    chance: float | None = None
    """How likely such a change is where the true one is at the limit; of `moved` and `score`, where there is none."""
    adjusted: float | None = None
    """The same after Holm's correction for all cells of the day."""
    state: State = "quiet"
    reason: str = ""
    """Why it was not judged, or what made it an alarm."""
    bins: Bins | None = Field(None, exclude_if=lambda bins: bins is None)
    """Shares behind it, of the last day."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes cells of two days the same."""
        return self.check, self.of, self.domain

    @property
    def times(self) -> float:
        """The change over its limit: above 1 it is more than nobody minds; 0 where it was not judged."""
        return 0.0 if self.change is None else max(self.change, 0.0) / max(self.limit, 1e-9)

    def strength(self, false_alarms: float) -> float:
        """Return how far it is on the way to an alarm: above 1 exactly where both the change and its chance say so.

        A large change that chance explains is as little as a certain one that nobody minds.
        """
        if self.adjusted is None:
            return 0.0
        return min(self.times, math.log(max(self.adjusted, TINY)) / math.log(false_alarms))


class Day(Frozen):
    """What one span of time held."""

    start: AwareDatetime
    end: AwareDatetime
    rows: int
    users: int
    judged: int
    """Rows that were looked at: those that the version was not trained on, of so many users as `most_rows` allows."""
    rates: dict[str, float]
    """Share of the judged rows with each feedback; empty without rows."""
    cells: tuple[Cell, ...]

    @property
    def alarms(self) -> tuple[Cell, ...]:
        """Cells that raise the alarm, the worst first."""
        return tuple(sorted((one for one in self.cells if one.state == "alarm"), key=lambda one: -one.times))

    @property
    def drifted(self) -> tuple[Cell, ...]:
        """Cells beyond their limit that no second day has confirmed, the worst first."""
        return tuple(sorted((one for one in self.cells if one.state == "drifted"), key=lambda one: -one.times))

    @property
    def state(self) -> State:
        """What the day as a whole is."""
        if self.alarms:
            return "alarm"
        if self.drifted:
            return "drifted"
        # That traffic is as usual says nothing of what it holds.
        return "quiet" if any(one.state == "quiet" and one.check != "traffic" for one in self.cells) else "not judged"


class Report(Frozen):
    """The whole report, `drift.json`."""

    model: str
    version: int
    digest: str
    """Digest of the version's files."""
    rows_digest: str
    """Digest of the rows that were judged."""
    baseline_rows: int
    baseline_users: int
    baseline_window: Window
    every: str
    """How much time is judged at once, as YAML writes it; called a day here."""
    false_alarms: float
    """How likely a day without drift gives an alarm."""
    days: tuple[Day, ...]
    """In order; the last is the one that may alarm."""
    remarks: tuple[str, ...] = ()

    @property
    def today(self) -> Day:
        """The day that may alarm."""
        return self.days[-1]


class Alarm(Frozen):
    """What `alarm.json` says to a pipeline that waits for it."""

    model: str
    version: int
    start: AwareDatetime
    end: AwareDatetime
    raised: bool
    sentences: tuple[str, ...]
    """What drifted, the worst first; empty where nothing did."""


WORDS: dict[Check, str] = {
    "moved": "values of {of} moved, PSI {now:.3f}",
    "missing": "{of} is missing in {now:.1%} of the rows, it was in {before:.1%}",
    "unknown": "{of} is new to the model in {now:.1%} of the rows, it was in {before:.1%}",
    "joined": "{of} is another than the join gives in {now:.1%} of the rows",
    "score": "scores of {of} moved, PSI {now:.3f}",
    "level": "the mean of {of} is {now:.4f}, it was {before:.4f}",
    "calibration": "predicted over observed of {of} is {now:.3f}, it was {before:.3f}",
    "ranking": "{of} ranks with {now:.4f}, it was {before:.4f}",
    "memory": "the error memory makes the log-loss of {of} worse by {now:.1%}",
    "skew": "the version answers {now:.1%} of the logged rows for {of} otherwise than the service did",
    "traffic": "there are {now:,.0f} {of}, {before:,.0f} are usual on this weekday",
}


def sentence(cell: Cell) -> str:
    """Return what happened in a cell that was judged."""
    said = WORDS[cell.check].format(of=cell.of, now=cell.now or 0.0, before=cell.before or 0.0)
    return said if cell.domain == ALL else f"{said}, in {cell.domain}"


def settled(days: Sequence[Day], false_alarms: float) -> tuple[Day, ...]:
    """Return days whose cells have a state: Holm's correction within each day, and what was so the day before.

    Args:
        days: in order, with the chance of every cell.
        false_alarms: chance of an alarm on a day without drift, over all cells.
    """
    found: list[Day] = []
    before: set[tuple[str, str, str]] = set()
    for day in days:
        judged = [cell for cell in day.cells if cell.chance is not None]
        adjusted = dict(zip((c.key for c in judged), holm([c.chance or 0.0 for c in judged]), strict=True))
        cells = tuple(_settled(cell, adjusted.get(cell.key), false_alarms, before) for cell in day.cells)
        before = {cell.key for cell in cells if cell.state in ("drifted", "alarm")}
        found.append(day.model_copy(update={"cells": cells}))
    return tuple(found)


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values as they count among so many: some true null is below α with a chance of at most α (Holm 1979)."""
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    adjusted, worst = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = worst
    return adjusted


def _settled(cell: Cell, adjusted: float | None, false_alarms: float, before: set[tuple[str, str, str]]) -> Cell:
    if adjusted is None or cell.change is None:
        return cell.model_copy(update={"state": "not judged"})
    state: State = "quiet"
    reason = ""
    if adjusted < false_alarms and cell.change > cell.limit:
        again, sure = cell.key in before, cell.times > SURE
        state = "alarm" if again or sure else "drifted"
        reason = (
            f"{cell.times:.1f} times its limit" if sure else "the second day in a row" if again else "the first day"
        )
    return cell.model_copy(update={"state": state, "adjusted": adjusted, "reason": reason})
