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
