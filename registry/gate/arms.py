"""Did the challenger's users do as much as the champion's? Two arms of a canary in, judgements out.

Nobody is in both arms, so nothing is paired: users are drawn within each arm. What people did with what they were
shown is judged by rate, and the order of the answers by what rankers are judged by. Log-loss is not: its level follows
the rate, which differs between arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from features.declaration import JudgeBy
from features.ground.errors import BadInputError
from registry.evaluation import ALL, Interval, Metric
from registry.gate.decide import SMALLEST_MARGIN, STABLE, Outcome, outcome_of, smallest_loss
from registry.gate.policy import GatePolicy
from registry.gate.verdict import Judgement
from registry.metrics import Requests
from registry.metrics.requests import statistics_of
from registry.metrics.resampling import Arm, arms_bootstrap
from registry.metrics.weighted import checked, defined, group_codes, ratio_statistic, row_weights, sums

Array = NDArray[Any]
RATE = "rate"
"""Share of rows with a feedback, in the judgement of two arms."""


@dataclass(frozen=True)
class Served:
    """What one version answered, and what came of it."""

    labels: Mapping[str, Array]
    """By feedback: ``[rows]``, 0 or 1."""
    answers: Mapping[str, Array]
    """By feedback: float64 ``[rows]`` probabilities."""
    user: Array
    """``[rows]``, equal for rows of the same user."""
    domain: Array
    """``[rows]`` domain values as strings."""
    propensity: Array
    """``[rows]`` chance of the arm when the row was answered; rows count by its inverse, so that a share that was
    changed in between makes no difference between the arms."""
    request: Array | None = None
    """``[rows]``, equal for rows of the same request; None where rows have none."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.user.shape[0])


@dataclass(frozen=True)
class RateMargins:
    """Share of a rate that a challenger may lose."""

    whole: float
    domain: float


def judge_arms(
    challenger: Served, champion: Served, policy: GatePolicy, margins: RateMargins, judge_by: JudgeBy = "auc"
) -> tuple[Judgement, ...]:
    """Return a judgement of every feedback: its rate over all rows and in each domain, and its order over all rows.

    Raises:
        BadInputError: a chance is none, or labels or answers are not what they should be.
    """
    for arm in (challenger, champion):
        if arm.rows and not ((arm.propensity > 0) & (arm.propensity <= 1)).all():
            raise BadInputError("a canary's rows need the chance of their arm, above 0 and at most 1: log them anew")
    metric: Metric = "auc" if judge_by == "log_loss" else judge_by
    domains = sorted({*np.unique(challenger.domain), *np.unique(champion.domain)} - {ALL})
    judgements: list[Judgement] = []
    for feedback in challenger.labels:
        judgements.append(_rate(challenger, champion, feedback, ALL, policy, margins.whole))
        judgements.append(_order(challenger, champion, feedback, metric, policy))
        judgements += [_rate(challenger, champion, feedback, str(domain), policy, margins.domain) for domain in domains]
    return tuple(judgements)


def _rate(
    challenger: Served, champion: Served, feedback: str, domain: str, policy: GatePolicy, margin: float
) -> Judgement:
    pair, rarer = [], []
    for arm in (challenger, champion):
        kept = np.ones(arm.rows, dtype=bool) if domain == ALL else arm.domain == domain
        label, _ = checked(arm.labels[feedback][kept], np.zeros(int(kept.sum())))
        codes, size = group_codes(arm.user[kept], label.size)
        weights = row_weights(1 / arm.propensity[kept], label.size)
        rate = ratio_statistic(sums(codes, size, weights * label), sums(codes, size, weights))
        pair.append(Arm(rate, label.size, size))
        rarer.append(int(min(label.sum(), label.size - label.sum())))
    few = min(rarer) if domain != ALL else policy.min_positives
    return _judged(pair[0], pair[1], feedback, domain, RATE, policy, margin, few, relative=True)


def _order(challenger: Served, champion: Served, feedback: str, metric: Metric, policy: GatePolicy) -> Judgement:
    pair = []
    for arm in (challenger, champion):
        label, scores = checked(arm.labels[feedback], arm.answers[feedback])
        codes, size = group_codes(arm.user, label.size)
        requests = None if arm.request is None else Requests(arm.request, policy.top)
        weights = row_weights(1 / arm.propensity, label.size)
        statistic = statistics_of((metric,), label, scores, codes, size, requests, weights=weights)[0]
        pair.append(Arm(statistic, label.size, size))
    return _judged(pair[0], pair[1], feedback, ALL, metric, policy, policy.auc_margin, policy.min_positives)


def _judged(
    challenger: Arm,
    champion: Arm,
    feedback: str,
    domain: str,
    metric: str,
    policy: GatePolicy,
    margin: float,
    few: int,
    relative: bool = False,
) -> Judgement:
    new, old = (defined(arm.of(np.ones((arm.users, 1)))[0]) if arm.rows else None for arm in (challenger, champion))
    difference: Interval | None = None
    drawn = 0
    if challenger.rows and champion.rows:
        difference, drawn = arms_bootstrap(
            challenger, champion, STABLE * max(margin, SMALLEST_MARGIN), policy.resamples, policy.most_resamples,
            policy.seed, policy.confidence, relative=relative,
        )  # fmt: skip
    if few < policy.min_positives:
        outcome, reason = "not judged", f"{few} rows of the rarer class in an arm, {policy.min_positives} are needed"
    else:
        unit = "relative difference" if relative else "difference"
        outcome, reason = outcome_of(difference, -margin, policy, unit, whole=domain == ALL, less_is_better=False)
    return Judgement(
        task=feedback, domain=domain, metric=metric, champion=old, challenger=new, difference=difference,
        limit=-margin, outcome=cast("Outcome", outcome), reason=reason, resamples=drawn,
        smallest_loss=smallest_loss(difference, margin, relative=False),
    )  # fmt: skip
