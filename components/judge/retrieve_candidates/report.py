"""What does a retrieval report? By number of candidates and way to find them, what they hold of the later choices."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from components.judge.retrieve_candidates.config import Mixture
from features.declaration import Frozen, Name
from registry.evaluation import Interval

Way = Literal["single", "mixture", "popular"]
"""One query per user, several, or the same items for everybody, by how many chose them."""
Group = Literal["all", "known"]
"""Every user with a choice to be found, or those of them who had chosen something before."""


class Figures(Frozen):
    """One way to find k candidates, on one group of users."""

    way: Way
    group: Group
    k: int
    users: int
    """Users with a choice to be found."""
    recall: Interval
    """Mean over users of the share of their choices that is among the candidates."""
    difference: Interval | None = None
    """Recall less that of the single query, on the same users; None for the single query itself."""
    distinct: int
    """Different items among all candidates."""
    catalogue: float
    """Their share of the items that there are."""
    popularity: float
    """How many chose a candidate before, on average."""
    popular: float
    """Share of candidates from the most chosen tenth of the items."""


class Retrieval(Frozen):
    """What was asked, and how well it was answered."""

    model_digest: str
    dataset_digest: str
    feedback: Name
    horizon: timedelta | None
    """Choices until so long after the first row counted; None where all did."""
    mixture: Mixture | None
    items: int
    """Items that there are to find."""
    users: int
    """Users who were asked about."""
    judged: int
    """Those with a choice to be found."""
    choices: int
    """Their choices."""
    unseen: int
    """Those of them that nobody was shown before, so that nothing can find them."""
    resamples: int
    figures: tuple[Figures, ...]
