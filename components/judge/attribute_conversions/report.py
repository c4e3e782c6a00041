"""What is told of channels? The effect of each on the predicted conversions, beside touches, which are no effects."""

from __future__ import annotations

from features.declaration import Frozen, Name
from registry.evaluation import Interval


class Channel(Frozen):
    """One channel; its effect is what the model would expect less had its events never been."""

    name: str
    rows: int
    """Rows with an event of it."""
    effect: Interval
    """Σ (p − p without its events) over all rows ÷ conversions: the share of conversions that would be missing."""
    share: float | None
    """Of the effects of all channels, those below 0 counting as 0; None where none is above."""
    converted: Interval
    """Mean p − p without over the rows that converted."""
    logit: float
    """Mean change of the log-odds over the rows with an event of it; 0 without any."""
    touches: float
    """Its share of the events of converted rows. No effect."""
    last: float
    """Share of the converted rows with an event whose newest one is of it. No effect."""
    again: float | None = None
    """The effect by the second model."""


class Attribution(Frozen):
    """The whole report."""

    model_digest: str
    dataset_digest: str
    again_digest: str | None
    feedback: Name
    attribute: Name
    split: str
    rows: int
    rows_of_split: int
    conversions: int
    predicted: float
    """Σ p over the rows."""
    auc: float
    min_auc: float
    together: Interval
    """Effect of all events of the history at once; what single channels do does not add up to it."""
    confidence: float
    resamples: int
    stability: float | None
    """Spearman's correlation of the channels' effects by both models; None without a second, or where one side has
    no order."""
    channels: tuple[Channel, ...]
    """The largest effect first."""
    remarks: tuple[str, ...]
