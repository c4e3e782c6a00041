"""How is a retrieval read in a browser? One self-contained page: each way to find them beside the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from components.judge.retrieve_candidates.report import Figures, Group, Retrieval, Way
from components.pages.document import render as page_of
from features.ground.durations import written

WAYS: dict[Way, str] = {"single": "one query", "mixture": "a query per kind", "popular": "the most chosen"}
GROUPS: dict[Group, str] = {"all": "Every user with a choice to find", "known": "Users who had chosen something before"}


@dataclass(frozen=True)
class _View:
    report: Retrieval
    name: str
    within: str
    groups: tuple[tuple[str, tuple[Figures, ...]], ...]
    ways: dict[Way, str]


def render(report: Retrieval, name: str) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere."""
    parts = ((title, tuple(f for f in report.figures if f.group == group)) for group, title in GROUPS.items())
    groups = tuple((title, figures) for title, figures in parts if figures)
    within = "the whole test split" if report.horizon is None else f"{written(report.horizon)} after the first row"
    return page_of(__file__, _View(report, name, within, groups, WAYS))


def headline(report: Retrieval) -> Iterator[str]:
    """Yield one line per number of candidates."""
    for k in dict.fromkeys(figures.k for figures in report.figures):
        mine = [f for f in report.figures if f.k == k and f.group == "all"]
        told = ", ".join(f"{WAYS[f.way]} {f.recall.value:.3f} ({f.distinct:,} items)" for f in mine)
        yield f"recall of {k}: {told}"
