"""Which sequence encoders are there, and what may a pipeline say about each?"""

from components.rankers.config import AttentionHeads, Layers, SequenceConfig


class MeanConfig(SequenceConfig, name="mean", builds="components.rankers.sequences.mean:MeanSequence"):
    """Mean of the events."""


class DinConfig(SequenceConfig, name="din", builds="components.rankers.sequences.din:DinSequence"):
    """Sum of the events, each weighted by an activation unit that sees the candidate."""


class TinConfig(SequenceConfig, name="tin", builds="components.rankers.sequences.tin:TinSequence"):
    """Attention with positions counted back from the candidate, in weight and value."""


class TransformerConfig(
    SequenceConfig, name="transformer", builds="components.rankers.sequences.transformer:TransformerSequence"
):
    """A causal transformer whose last token is the candidate."""

    layers: Layers = 2
    """Layers of the interaction, or of a transformer over the history or, in `fintrec`, over the events."""
    heads: AttentionHeads = 2
    """Attention heads of `autoint`, `transformer` and `fintrec`."""
