"""Which embeddings are there, and what may a pipeline say about each?"""

from typing import Annotated

from pydantic import Field

from components.rankers.config import EmbeddingConfig


class VocabularyConfig(EmbeddingConfig, name="vocabulary", builds="components.rankers.embedding.table:FieldEmbedding"):
    """A row per value of every table."""


class HashedConfig(EmbeddingConfig, name="hashed", builds="components.rankers.embedding.hashed:HashedEmbedding"):
    """One table of a fixed size for all fields, two hashed rows summed per value."""

    buckets: Annotated[int, Field(ge=2, le=100_000_000)] = 65_536
    """Rows of the one table of a `hashed` embedding."""


class FrozenConfig(EmbeddingConfig, name="frozen", builds="components.rankers.embedding.frozen:FrozenEmbedding"):
    """A row per value, and where `attach_vectors` gave values vectors, a learned projection of those beside it."""

    projection: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Factor of the projected vectors at the start, learned from there on; 0 leaves them out for good."""
    ids: bool = True
    """Whether a value with a vector has a row of its own as well; without it nothing is remembered of single values."""
    ids_dropped: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of such values that training shows by their vector alone, so that it also speaks for values that training
    never held."""
