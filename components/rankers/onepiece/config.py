"""What may a pipeline say about `onepiece`?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from components.rankers.config import AttentionHeads, Deviation, Dropout, Layers, RankerConfig, Sizes, Width


class OnePieceConfig(RankerConfig, Sizes, name="onepiece", builds="components.rankers.onepiece.ranker:OnePiece"):
    """A transformer whose candidate reads events and context in several steps, a feedback each (Dai et al., 2025)."""

    embedding_width: Width = 32
    embedding_std: Deviation = 0.1
    dropout: Dropout = 0.1
    layers: Layers = 2
    """Layers of the transformer; every step runs through the same ones."""
    heads: AttentionHeads = 4
    """Attention heads of each layer."""
    steps: Annotated[int, Field(ge=0, le=8)] | None = None
    """Steps after the first reading; None is one per feedback. The last feedback is read from the last step, the one
    before it from the step before; 0 reads once."""
