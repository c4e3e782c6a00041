"""Which interactions are there, and what may a pipeline say about each?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from components.rankers.config import AttentionHeads, Dropout, InteractionConfig, Layers, Width
from features.declaration import Name

Pair = tuple[Name, Name]
"""Two categorical fields."""


class NoInteractionConfig(InteractionConfig, name="none", builds="components.rankers.interactions.none:NoInteraction"):
    """Fields side by side."""


class Layered(InteractionConfig):
    """An interaction of some depth."""

    layers: Layers = 2
    """Layers of the interaction, or of a transformer over the history or, in `fintrec`, over the events."""


class MlpConfig(Layered, name="mlp", builds="components.rankers.interactions.mlp:Mlp"):
    """A network that all feedback types share."""


class DcnV2Config(Layered, name="dcnv2", builds="components.rankers.interactions.dcnv2:DcnV2"):
    """Cross layers: products of up to `layers` + 1 features."""


class AutoIntConfig(Layered, name="autoint", builds="components.rankers.interactions.autoint:AutoInt"):
    """Attention among fields, next to the raw ones."""

    heads: AttentionHeads = 2
    """Attention heads of `autoint`, `transformer` and `fintrec`."""
    attention_width: Width | None = Field(None, exclude_if=lambda width: width is None)
    """Width of one attention head of `autoint`; None is the width of the embeddings."""
    attention_dropout: Dropout = Field(0.0, exclude_if=lambda share: share == 0.0)
    """Share of the attention among fields that `autoint` drops in training."""


class MlccConfig(InteractionConfig, name="mlcc", builds="components.rankers.interactions.mlcc:Mlcc"):
    """Products of three and more fields by small matrices that each row makes for itself."""

    channels: Annotated[int, Field(ge=1, le=64)] = 4
    """Parts of every embedding of `mlcc` that cross by themselves; divides `embedding_width`."""
    crosses: Annotated[int, Field(ge=1, le=64)] = 4
    """Matrices that each row makes per channel in `mlcc`."""
    cross: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=4)] = (4, 1)
    """Widths that one of them brings a field to, step by step, in `mlcc`: two steps hold products of three fields."""
    compressed: Width = 8
    """Numbers that `mlcc` keeps per field."""

    @model_validator(mode="after")
    def _channels_divide(self) -> MlccConfig:
        if self.embedding_width % self.channels:
            raise ValueError(
                f"mlcc cuts embeddings of width {self.embedding_width} into {self.channels} channels: "
                "choose channels that divide embedding_width"
            )
        return self


class OptInterConfig(InteractionConfig, name="optinter", builds="components.rankers.interactions.optinter:OptInter"):
    """Pairs of fields that have a table, or a product, of their own; every other pair has nothing."""

    memorise: tuple[Pair, ...] = ()
    """Pairs of categorical fields of which `optinter` keeps a row per combination of values."""
    factorise: tuple[Pair, ...] = ()
    """Pairs of which `optinter` multiplies the two embeddings."""
    cross_rows: Annotated[int, Field(ge=16, le=100_000_000)] = 16_384
    """Most rows of the table of a memorised pair of `optinter`; of more combinations some share a row."""

    @model_validator(mode="after")
    def _each_pair_once(self) -> OptInterConfig:
        seen: set[frozenset[str]] = set()
        for pair in (*self.memorise, *self.factorise):
            one, other = pair
            if one == other:
                raise ValueError(f"optinter pairs {one!r} with itself: name two fields")
            if frozenset(pair) in seen:
                raise ValueError(f"optinter has the pair of {one!r} and {other!r} twice: leave one of them out")
            seen.add(frozenset(pair))
        return self
