"""Which sequence encoders are there, and what may a pipeline say about each?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.rankers.config import AttentionHeads, Layers, SequenceConfig
from features.declaration import Name


class MeanConfig(SequenceConfig, name="mean", builds="components.rankers.sequences.mean:MeanSequence"):
    """Mean of the events."""


class DinConfig(SequenceConfig, name="din", builds="components.rankers.sequences.din:DinSequence"):
    """Sum of the events, each weighted by an activation unit that sees the candidate."""

    activation: Literal["prelu", "dice"] = Field("prelu", exclude_if=lambda name: name == "prelu")
    """Activation inside the unit of `din`: one slope below zero, or `dice`, whose bend moves with each event's own
    numbers."""


class TinConfig(SequenceConfig, name="tin", builds="components.rankers.sequences.tin:TinSequence"):
    """Attention with positions counted back from the candidate, in weight and value."""

    positions: Literal["order", "elapsed", "both"] = Field("order", exclude_if=lambda read: read == "order")
    """What tells `tin` how far an event lies back: how many events ago, how long ago (each bucket twice as long as the
    one before), or both."""


class TransformerConfig(
    SequenceConfig, name="transformer", builds="components.rankers.sequences.transformer:TransformerSequence"
):
    """A causal transformer whose last token is the candidate."""

    layers: Layers = 2
    """Layers of the interaction, or of a transformer over the history or, in `fintrec`, over the events."""
    heads: AttentionHeads = 2
    """Attention heads of `autoint`, `transformer` and `fintrec`."""


class SdimConfig(SequenceConfig, name="sdim", builds="components.rankers.sequences.sdim:SdimSequence"):
    """Sum of the events whose hashes meet the candidate's: attention to thousands of events without comparing each."""

    hashes: Annotated[int, Field(ge=1, le=1024)] = 48
    """Hashes of one bit of every event in `sdim`, of fixed random directions."""
    signature: Annotated[int, Field(ge=1, le=16)] = 3
    """Hashes that must all agree with the candidate's for an event to count in `sdim`; divides `hashes`."""

    @model_validator(mode="after")
    def _signatures_divide(self) -> SdimConfig:
        if self.hashes % self.signature:
            raise ValueError(f"hashes {self.hashes} is no multiple of signature {self.signature}: make it one")
        return self


Kept = Annotated[int, Field(ge=1, le=1000)]


class SearchedConfig(SequenceConfig, name="searched", builds="components.rankers.sequences.searched:SearchedSequence"):
    """The events most like the candidate, found by a search over all, then read by another encoder."""

    search: Literal["hash", "category", "soft"] = "hash"
    """What `searched` looks for: `hash` the events whose hashes differ least from the candidate's, `category` those
    that share an attribute with it, the newest first, `soft` those whose inner product with it, in a space that learns
    by a loss of its own, is largest."""
    search_loss: Annotated[float, Field(gt=0, le=100)] = Field(1.0, exclude_if=lambda weight: weight == 1)
    """How much the loss of `search: soft` counts beside that of the ranker."""
    by: Name | None = None
    """Attribute of the events that `search: category` compares; None compares all of them."""
    keep: Kept = 20
    """Events that `searched` and `muse` keep."""
    bits: Annotated[int, Field(ge=1, le=128)] = 32
    """Hashes of one bit of `search: hash`."""
    attend: Literal["din", "tin", "transformer", "mean"] = "din"
    """Encoder of the events that `searched` keeps, with its own defaults."""


class MuseConfig(SequenceConfig, name="muse", builds="components.rankers.sequences.muse:MuseSequence"):
    """The events most like the candidate by vectors of their content, weighed by content and ids."""

    keep: Kept = 20
    """Events that `searched` and `muse` keep."""
