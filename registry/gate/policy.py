"""What must a challenger show before it becomes champion? The gate's settings, without the arithmetic."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, get_args

from pydantic import Field

from features.declaration import Frozen, Name
from features.ground.durations import Duration
from registry.evaluation import Metric, RequestMetric, RowMetric


class Floor(Frozen):
    """Absolute limits for one task over all rows; they hold even when there is no champion.

    Those of requests need a training set with `request`.
    """

    auc: float | None = Field(None, ge=0, le=1)
    """Least AUC."""
    gauc: float | None = Field(None, ge=0, le=1)
    """Least AUC per user."""
    log_loss: float | None = Field(None, gt=0)
    """Most log-loss."""
    normalised_entropy: float | None = Field(None, gt=0)
    """Most log-loss over the entropy of the base rate."""
    ece: float | None = Field(None, gt=0)
    """Most calibration error."""
    pcoc_within: float | None = Field(None, gt=0)
    """Largest |predicted / observed clicks − 1|."""
    request_auc: float | None = Field(None, ge=0, le=1)
    """Least AUC per request."""
    mrr: float | None = Field(None, ge=0, le=1)
    """Least MRR."""
    ndcg: float | None = Field(None, ge=0, le=1)
    """Least NDCG of the first `top` places."""
    hit_rate: float | None = Field(None, ge=0, le=1)
    """Least hit rate of the first `top` places."""
    recall: float | None = Field(None, ge=0, le=1)
    """Least recall of the first `top` places."""

    @property
    def limits(self) -> dict[Metric, float]:
        """The limits that are set, by metric; that of PCOC is its distance from 1."""
        named: dict[Metric, float | None] = {m: getattr(self, m) for m in get_args(RowMetric) if m != "pcoc"}
        named |= {"pcoc": self.pcoc_within} | {m: getattr(self, m) for m in get_args(RequestMetric)}
        return {metric: limit for metric, limit in named.items() if limit is not None}


class GatePolicy(Frozen):
    """What the challenger must show against the champion on the same rows."""

    floors: dict[Name, Floor] = Field(default_factory=dict)
    """Absolute limits per task."""
    auc_margin: float = Field(0.002, ge=0, le=0.5)
    """AUC, or of the metric that the training set says to `judge_by`, that the challenger may lose over all rows of a
    task before it is refused."""
    domain_auc_margin: float = Field(0.01, ge=0, le=0.5)
    """The same within each domain."""
    log_loss_margin: float = Field(0.005, ge=0, le=1)
    """Relative log-loss it may lose over all rows of a task."""
    top: int = Field(10, ge=1, le=1000)
    """Places of a request that NDCG, hit rate and recall look at."""
    weighted: bool = False
    """Whether rows count by the weights of the training set, in the tasks of a feedback that has some."""
    rule: Literal["not_shown_worse", "non_inferior"] = "not_shown_worse"
    """`not_shown_worse` refuses a cell when its whole interval lies beyond the margin: the loss is proven.
    `non_inferior` also refuses when the interval reaches beyond it: that nothing is lost must be proven, which a
    small test split cannot."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the paired bootstrap intervals."""
    resamples: int = Field(200, ge=50, le=100_000)
    """Bootstrap resamples of users, at least; more are drawn until the bounds are stable to a tenth of the margin."""
    most_resamples: int = Field(5_000, ge=50, le=1_000_000)
    """Resamples that are never exceeded."""
    min_positives: int = Field(50, ge=2)
    """A domain with fewer positives or negatives than this is shown, not judged."""
    seed: int = 0
    """Seed of the resampling."""


class ServedPolicy(Frozen):
    """Which comparison of `compare_served` a challenger must have passed against the present champion."""

    by: Literal["shadow", "canary", "either"] = "either"
    """How both answered people's questions."""
    rows: int = Field(1000, ge=1)
    """Rows that were compared, at least."""
    within: Duration = timedelta(days=7)
    """How old the comparison may be."""
