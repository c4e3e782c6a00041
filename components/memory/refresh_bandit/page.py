"""What does a reader see of a bandit? One page: how many rows reached clusters and items, and what bonus is left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.pages.document import picture
from components.pages.document import render as page_of
from components.pages.plots import TEAL, new_figure, save, style_title
from components.platform.artifacts import Bandit
from registry.memory.bandit import Bandit as State
from registry.memory.bandit import BanditHeader

LISTED = 20


@dataclass(frozen=True)
class Item:
    """One item over all clusters."""

    item: str
    rows: float
    """Σ w² of its rows."""
    rate: float
    """Σ b / Σ (d − 1), about its share of rewards."""
    bonus: float
    """Largest bonus that is left in a cluster."""


@dataclass(frozen=True)
class Report:
    """What the page shows."""

    header: BanditHeader
    clusters: int
    items: int
    untouched: float
    """Share of cluster-item pairs that no row has reached."""
    least: float
    """Smallest bonus of a user in the middle of a cluster."""
    most: float
    """Largest one."""
    unsure: tuple[Item, ...]
    """Items with the most still to find out."""
    image: str = ""


def render(report: Report) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere."""
    return page_of(__file__, report)


def write_report(folder: Path, state: State) -> Report:
    """Write the self-contained page and return what it shows; equal states give equal bytes."""
    bonus = state.header.alpha / np.sqrt(state.d)
    seen = (state.d - 1.0).sum(axis=0)
    order = np.argsort(seen, kind="stable")[:LISTED]
    names = state.items.to_pylist()
    unsure = tuple(
        Item(str(names[j]), float(seen[j]), float(state.b[:, j].sum() / max(seen[j], 1e-12)), float(bonus[:, j].max()))
        for j in order.tolist()
    )
    figure = new_figure(7.5, 2.8)
    axes = figure.add_subplot()
    axes.hist(bonus.ravel(), bins=40, color=TEAL)
    axes.set_xlabel("bonus, as a probability")
    axes.set_ylabel("cluster-item pairs")
    axes.set_title(f"bonus of {state.d.size:,} pairs")
    style_title(axes)
    save(figure, folder / "bonus.png")
    report = Report(
        header=state.header,
        clusters=len(state.centres),
        items=len(names),
        untouched=float((state.d == 1.0).mean()),
        least=float(bonus.min()),
        most=float(bonus.max()),
        unsure=unsure,
        image=picture(folder / "bonus.png"),
    )
    (folder / Bandit.page.file).write_text(render(report), encoding="utf-8")
    return report
