"""What does a simulation report? Per policy and group of candidates, its value by each estimator."""

from __future__ import annotations

from features.declaration import Frozen, Window
from registry.evaluation import Interval

THE_LOG = "the log"
"""What stands in `Gain.over` for the policy that made the judged rows."""


class Gain(Frozen):
    """How much more one policy is worth than another on the same rows, from the same resamples."""

    over: str
    """Label of the other policy, or `THE_LOG`."""
    by: str
    """Estimator of both."""
    difference: Interval


class PolicyValue(Frozen):
    """One policy on the rows of one group."""

    policy: str
    """Label of the policy."""
    group: str
    """Value of `candidates_per`, or ``every row``."""
    rows: int
    """Logged impressions."""
    positives: int
    """Those with the label, or with more than the mean of a reward that is none."""
    candidates: int
    """Items that could be shown."""
    logged: Interval
    """Mean reward of the log, the value of the policy that made it."""
    mean_weight: Interval
    """Mean of the weights; 1 but for chance when the propensities are right and weights not clipped."""
    effective_rows: float
    """(Σ weight)² / Σ weight²: rows that would be as informative were every weight equal."""
    largest_weight: float
    """Largest weight before clipping."""
    clipped: float
    """Share of rows whose weight was cut."""
    estimates: dict[str, Interval]
    """Value by estimator: ``ips``, ``snips``, ``direct (<reward model>)``, ``dr (<reward model>)``."""
    corrections: dict[str, Interval]
    """By reward model the weighted mean of what it did not predict, DR minus direct method: 0 but for chance when the
    reward model is right for this policy."""
    on_policy: Interval | None = None
    """Mean reward of the policy's own log in the same time; None when it has none."""
    gains: tuple[Gain, ...] = ()
    """Of a learned policy: against the log and every fixed policy."""

    def covers(self, estimator: str) -> bool | None:
        """Return whether the interval of an estimate holds the on-policy value; None without either."""
        found = self.estimates[estimator]
        if self.on_policy is None or self.on_policy.value is None or found.low is None or found.high is None:
            return None
        return found.low <= self.on_policy.value <= found.high


class Simulation(Frozen):
    """The whole report."""

    model_digest: str
    """Empty without a ranker."""
    dataset_digest: str
    reference_digest: str
    """Empty without a reference log."""
    policy_digest: str = ""
    """Empty without a learned policy."""
    reward: str
    """Label, or the learned policy's reward in words."""
    rows: int
    window: Window
    held_out: bool
    unit: str
    clip: float | None
    confidence: float
    resamples: int
    values: tuple[PolicyValue, ...]
