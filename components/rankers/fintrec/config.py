"""What may a pipeline say about `fintrec`?"""

from typing import Literal

from components.rankers.config import AttentionHeads, Deviation, Dropout, Layers, RankerConfig, Sizes, Width


class FintrecConfig(RankerConfig, Sizes, name="fintrec", builds="components.rankers.fintrec.ranker:Fintrec"):
    """A transformer over timed events of several channels, static context and candidate (Katariya et al., 2025)."""

    embedding_width: Width = 32
    embedding_std: Deviation = 0.1
    dropout: Dropout = 0.1
    layers: Layers = 2
    """Layers of the transformer over the events."""
    heads: AttentionHeads = 4
    """Attention heads of each layer."""
    time: Literal["decay", "none"] = "decay"
    """`fintrec`: tokens know how long ago their event was and attention fades with time, or only the order counts."""
    cvr_space: Literal["entire", "click"] = "entire"
    """`fintrec`: deeper steps of a funnel learn from products over every impression, or from rows that reached them."""
