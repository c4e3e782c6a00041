"""What does a fit of pairs report? By length of list and way to make them, what they hold of the newest baskets."""

from __future__ import annotations

from typing import Literal

from components.train.fit_item_pairs.config import Publish
from features.declaration import Frozen, Name
from registry.evaluation import Interval

Way = Literal["vectors", "count", "lift", "popular"]
"""⟨v, o⟩, how often two lay together, that over what chance would give, or the same items for everything."""


class Figures(Frozen):
    """Lists of one length, made in one way."""

    way: Way
    k: int
    recall: Interval
    """Mean over lines of the newest baskets of the share of the basket's other items that is in the line's list."""
    new: Interval
    """Share of their pairs that never lay together before and are in the lists."""
    distinct: int
    """Different items among all lists."""


class Fit(Frozen):
    """What was learned from, and how good the lists are."""

    basket: Name
    item: Name
    items: int
    """Items with a list."""
    left_out: int
    """Items in too few baskets."""
    pairs: int
    """Ordered pairs that were learned from."""
    test_baskets: int
    test_pairs: int
    """Ordered pairs of the newest baskets."""
    new_pairs: int
    """Those of them that never lay together before."""
    popularity: float
    publish: Publish
    resamples: int
    figures: tuple[Figures, ...]

    def best(self, k: int) -> Figures:
        """Return the figures with the largest recall among those of one length."""
        return max((one for one in self.figures if one.k == k), key=lambda one: one.recall.value or 0.0)
