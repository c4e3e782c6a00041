"""How is the simulation read in a browser? One self-contained page: estimates as tables, plots inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.judge.simulate_policy.report import PolicyValue, Simulation
from components.pages.document import picture
from components.pages.document import render as page_of


@dataclass(frozen=True)
class _View:
    report: Simulation
    name: str
    groups: tuple[tuple[str, tuple[PolicyValue, ...], str], ...]
    """Each group of rows with its policies and the `src` of its plot."""
    remarks: tuple[str, ...]


def render(report: Simulation, name: str, remarks: Sequence[str], plots: Sequence[Path]) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere."""
    names = dict.fromkeys(value.group for value in report.values)
    groups = tuple(
        (group, tuple(value for value in report.values if value.group == group), picture(plot))
        for group, plot in zip(names, plots, strict=True)
    )
    return page_of(__file__, _View(report, name, groups, tuple(remarks)))
