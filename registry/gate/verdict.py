"""What did the gate answer, cell by cell?"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from features.declaration import Frozen, Name
from registry.evaluation import Interval


class Judgement(Frozen):
    """One comparison of the gate.

    Attributes:
        task: output name.
        domain: domain value, or ``all``.
        metric: what was compared.
        champion: the champion's value, None without a champion.
        challenger: the challenger's value.
        difference: challenger − champion, paired interval.
        limit: what it was held against.
        outcome: ``passed``, ``refused`` or ``not judged``.
        reason: one clause.
        resamples: bootstrap resamples behind the interval; 0 without one, or when an older release did not say.
        smallest_loss: smallest loss of these rows that would have been refused, in units of the limit's metric; None
            when nothing was compared.
    """

    task: Name
    domain: str
    metric: str
    champion: float | None
    challenger: float | None
    difference: Interval | None
    limit: float
    outcome: Literal["passed", "refused", "not judged"]
    reason: str
    resamples: int = 0
    smallest_loss: float | None = None


class Verdict(Frozen):
    """The gate's answer about one version.

    ``older`` needs no gate, since its window ends before the champion's; nor does ``held``, since a person took the
    version back. `warnings` say what the rows could not have shown,
    `rule` is the policy's.
    """

    model: Name
    challenger: int
    champion: int | None
    answer: Literal["promoted", "refused", "unchanged", "older", "held"]
    reason: str
    judgements: tuple[Judgement, ...]
    rows: int
    dataset_digest: str
    decided_at: AwareDatetime
    warnings: tuple[str, ...] = ()
    rule: Literal["not_shown_worse", "non_inferior"] = "not_shown_worse"
