"""What did the gate answer, cell by cell?"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from features.declaration import Frozen, Name
from registry.report import Interval


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


class Verdict(Frozen):
    """The gate's answer about one version; ``older`` needs no gate, since its window ends before the champion's."""

    model: Name
    challenger: int
    champion: int | None
    answer: Literal["promoted", "refused", "unchanged", "older"]
    reason: str
    judgements: tuple[Judgement, ...]
    rows: int
    dataset_digest: str
    decided_at: AwareDatetime
