"""How many of the later choices are among the candidates, and how many different items are they?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.judge.retrieve_candidates.mixture import NOBODY
from components.judge.retrieve_candidates.report import Figures, Group, Way
from components.judge.retrieve_candidates.rows import Asking, Wanted
from registry.metrics.resampling import bootstrap_ratios

Floats = NDArray[np.float64]
Found = Mapping[Way, NDArray[np.int64]]
"""By way to find them, int64 ``[U, k]`` items, `NOBODY` where there are fewer."""


@dataclass(frozen=True)
class Judge:
    """Counts later choices among candidates of the same users."""

    asked: Asking
    wanted: Wanted
    resamples: int
    seed: int

    @property
    def total(self) -> NDArray[np.int64]:
        """``[U]``, how many choices each user made."""
        users = self.asked.users.num_rows
        return np.bincount(self.wanted.pairs[:, 0], minlength=users) + self.wanted.missed

    def recalls(self, items: NDArray[np.int64]) -> Floats:
        """Return ``[U]``, of each user the share of choices that is among the candidates; NaN without a choice."""
        count = self.asked.items.num_rows
        users, _ = items.shape
        code = np.where(items == NOBODY, NOBODY, np.arange(users)[:, None] * count + items)
        hit = np.isin(code, self.wanted.pairs[:, 0] * count + self.wanted.pairs[:, 1]).sum(axis=1)
        total = self.total
        return np.divide(hit, total, out=np.full(users, np.nan), where=total > 0)

    def figures(self, found: Found) -> Sequence[Figures]:
        """Return the figures of every way and group for one number of candidates."""
        known = np.isin(np.arange(self.asked.users.num_rows), self.asked.chosen[:, 0])
        groups: dict[Group, NDArray[np.bool_]] = {"all": self.total > 0, "known": (self.total > 0) & known}
        recall = {way: self.recalls(items) for way, items in found.items()}
        return [
            self._one(way, group, users, found[way], recall)
            for group, users in groups.items()
            for way in found
        ]  # fmt: skip

    def _one(
        self, way: Way, group: Group, users: NDArray[np.bool_], items: NDArray[np.int64], recall: Mapping[Way, Floats]
    ) -> Figures:
        mine, single = recall[way][users], recall["single"][users]
        ones = np.ones(len(mine))
        ratios = {"recall": (mine, ones), "difference": (mine - single, ones)}
        intervals = bootstrap_ratios(ratios, np.arange(len(mine)), self.resamples if len(mine) > 1 else 0, self.seed)
        some = items[users]
        some = some[some != NOBODY]
        chosen = self.asked.popularity
        top = np.zeros(len(chosen), dtype=bool)
        top[np.argsort(-chosen, kind="stable")[: max(1, len(chosen) // 10)]] = True
        distinct = len(np.unique(some))
        return Figures(
            way=way,
            group=group,
            k=items.shape[1],
            users=len(mine),
            recall=intervals["recall"],
            difference=None if way == "single" else intervals["difference"],
            distinct=distinct,
            catalogue=distinct / len(chosen),
            popularity=float(chosen[some].mean()) if len(some) else 0.0,
            popular=float(top[some].mean()) if len(some) else 0.0,
        )
