"""What did the gate answer, cell by cell?"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from features.declaration import Frozen, Name
from registry.evaluation import Interval


class Judgement(Frozen):
    """One comparison of the gate."""

    task: Name
    """Output name."""
    domain: str
    """Domain value, or ``all``."""
    metric: str
    """What was compared."""
    champion: float | None
    """The champion's value, None without a champion."""
    challenger: float | None
    """The challenger's value."""
    difference: Interval | None
    """Challenger − champion, paired interval."""
    limit: float
    """What it was held against."""
    outcome: Literal["passed", "refused", "not judged"]
    """``passed``, ``refused`` or ``not judged``."""
    reason: str
    """One clause."""
    resamples: int = 0
    """Bootstrap resamples behind the interval; 0 without one, or when an older release did not say."""
    smallest_loss: float | None = None
    """Smallest loss of these rows that would have been refused, in units of the limit's metric; None when nothing was
    compared."""


class Consent(Frozen):
    """What a person said after the gate."""

    approved: bool
    by: str
    """Who; empty when nobody did in time."""
    place: str
    """Where."""
    note: str = ""
    """Why, in their words."""


class Verdict(Frozen):
    """The gate's answer about one version.

    ``older`` needs no gate, since its window ends before the champion's; ``held`` says that a person took the version
    back, or holds the model. ``waiting`` is what a version is that the gate let through, until a person has answered.
    ``passed`` is what a comparison of served answers says instead of ``promoted``: it moves nothing.
    `warnings` say what the rows could not have shown, `rule` is the policy's.
    """

    model: Name
    challenger: int
    champion: int | None
    answer: Literal["promoted", "refused", "unchanged", "older", "held", "waiting", "passed"]
    reason: str
    judgements: tuple[Judgement, ...]
    rows: int
    dataset_digest: str
    decided_at: AwareDatetime
    warnings: tuple[str, ...] = ()
    rule: Literal["not_shown_worse", "non_inferior"] = "not_shown_worse"
    weighted: tuple[Name, ...] = Field((), exclude_if=lambda feedback: not feedback)
    """Feedback whose tasks counted rows by their weights."""
    served: Literal["shadow", "canary"] | None = Field(None, exclude_if=lambda way: way is None)
    """How both versions answered people's questions; None of the rows of a training set."""
    consent: Consent | None = Field(None, exclude_if=lambda said: said is None)
    """What a person said; None where nobody was asked."""
