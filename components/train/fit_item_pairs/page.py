"""How are pairs read in a browser? What lists hold of the newest baskets, and the lists of the most bought items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.pages.document import render as page_of
from components.train.fit_item_pairs.report import Figures, Fit, Way

if TYPE_CHECKING:
    from components.train.fit_item_pairs.baskets import Baskets
    from components.train.fit_item_pairs.judge import Lists

WAYS: dict[Way, str] = {"vectors": "vectors", "count": "how often together", "lift": "lift", "popular": "most bought"}
SHOWN, LISTED = 25, 5


@dataclass(frozen=True)
class _Item:
    name: str
    baskets: int
    goes_with: tuple[str, ...]
    alike: tuple[str, ...]


@dataclass(frozen=True)
class _View:
    report: Fit
    name: str
    ways: dict[Way, str]
    best: dict[int, Figures]
    items: tuple[_Item, ...]


def render(report: Fit, baskets: Baskets, pairs: Lists, alike: Lists, name: str) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere."""
    ids = [str(value) for value in baskets.items.to_list()]
    if baskets.names is not None:
        ids = [f"{text} ({at})" if text and text != at else at for at, text in zip(ids, baskets.names, strict=True)]

    def listed(lists: Lists, at: int) -> tuple[str, ...]:
        return tuple(ids[other] for other in lists.items[at, :LISTED].tolist() if other >= 0)

    most = np.argsort(-baskets.counts, kind="stable")[:SHOWN].tolist()
    items = tuple(_Item(ids[at], int(baskets.counts[at]), listed(pairs, at), listed(alike, at)) for at in most)
    best = {k: report.best(k) for k in dict.fromkeys(one.k for one in report.figures)}
    return page_of(__file__, _View(report, name, WAYS, best, items))


def headline(report: Fit) -> Iterator[str]:
    """Yield one line per length of list."""
    for k in dict.fromkeys(one.k for one in report.figures):
        mine = [one for one in report.figures if one.k == k]
        told = ", ".join(f"{WAYS[one.way]} {one.recall.value or 0:.4f}" for one in mine)
        yield f"recall of {k}: {told}; {WAYS[report.best(k).way]} is best"
