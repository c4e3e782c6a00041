"""What must a challenger show before it becomes champion? The gate's settings, without the arithmetic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.declaration import Frozen, Name


class Floor(Frozen):
    """Absolute limits for one task over all rows; they hold even when there is no champion.

    Attributes:
        auc: least AUC.
        pcoc_within: largest |predicted / observed clicks − 1|.
    """

    auc: float | None = Field(None, ge=0, le=1)
    pcoc_within: float | None = Field(None, gt=0)


class GatePolicy(Frozen):
    """What the challenger must show against the champion on the same rows.

    Attributes:
        floors: absolute limits per task.
        auc_margin: AUC that the challenger may lose over all rows of a task before it is refused.
        domain_auc_margin: the same within each domain.
        log_loss_margin: relative log-loss it may lose over all rows of a task.
        rule: ``not_shown_worse`` refuses a cell when its whole interval lies beyond the margin: the loss is proven.
            ``non_inferior`` also refuses when the interval reaches beyond it: that nothing is lost must be proven,
            which a small test split cannot.
        confidence: coverage of the paired bootstrap intervals.
        resamples: bootstrap resamples of users, at least; more are drawn until the bounds are stable to a tenth of
            the margin.
        most_resamples: resamples that are never exceeded.
        min_positives: a domain with fewer positives or negatives than this is shown, not judged.
        seed: seed of the resampling.
    """

    floors: dict[Name, Floor] = Field(default_factory=dict)
    auc_margin: float = Field(0.002, ge=0, le=0.5)
    domain_auc_margin: float = Field(0.01, ge=0, le=0.5)
    log_loss_margin: float = Field(0.005, ge=0, le=1)
    rule: Literal["not_shown_worse", "non_inferior"] = "not_shown_worse"
    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(200, ge=50, le=100_000)
    most_resamples: int = Field(5_000, ge=50, le=1_000_000)
    min_positives: int = Field(50, ge=2)
    seed: int = 0
