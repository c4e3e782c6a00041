"""What is told of delivery? Per ad the variance, what chance alone would do, and which of both it is."""

from __future__ import annotations

from typing import Literal

from features.declaration import Frozen, Name
from registry.evaluation import Interval

State = Literal["over", "chance", "within"]


class Ad(Frozen):
    """One ad."""

    name: str
    impressions: int
    people: int
    """Whom it reached, those of a known group."""
    unknown: float
    """Share of all whom it reached whose group is not known; nothing else counts them."""
    shares: dict[str, float]
    """Delivered, by group."""
    eligible: dict[str, float]
    """Eligible, by group."""
    variance: Interval
    """½ Σ |delivered − eligible|."""
    mean: float
    """Mean variance of fair deliveries of this size."""
    limit: float
    """Variance that `level` of them do not exceed."""
    chance: float
    """Share of them with at least the ad's variance."""
    exact: bool
    """Whether chance was summed, not drawn."""
    state: State
    """``over`` is above the bound and above chance; ``chance`` above the bound, and not above chance."""


class Delivery(Frozen):
    """The whole report."""

    table_digest: str
    ad: Name
    group: Name
    unit: Literal["people", "impressions"]
    declared: bool
    """Whether eligible shares were declared."""
    among: Name | None
    at_most: float
    level: float
    resamples: int
    min_impressions: int
    people: int
    """In the table."""
    unknown: float
    """Share of them whose group is not known."""
    population: dict[str, float]
    """Share of each group among the others, or as declared."""
    ads: tuple[Ad, ...]
    """Those that were judged: over the bound first, then the largest variance."""
    left_out: int
    """Ads with fewer impressions, or with nobody of a known group."""
    left_out_impressions: int
    above: int
    """Ads above their chance level."""
    by_chance: float
    """Ads that would be above it were all deliveries fair."""
    within_ads: float | None
    """Share of the judged ads that are not over the bound; None without any."""
    within_impressions: float | None
    """The same, ads weighted by their impressions."""
    remarks: tuple[str, ...]
