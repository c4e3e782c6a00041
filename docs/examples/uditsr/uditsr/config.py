"""What may a pipeline say about the ranker `uditsr`? Read by every command: import nothing heavy here."""

from typing import Annotated

from pydantic import Field

from components.rankers.config import Deviation, RankerConfig, Width
from features.declaration import Name

Weight = Annotated[float, Field(ge=0, le=100)]


class UditsrConfig(RankerConfig, name="uditsr", builds="uditsr.ranker:Uditsr"):
    """A demand that search states and the feed does not: read where it is, made up where it is not (KDD 2024)."""

    embedding_width: Width = 16
    """Width of words, users and items, d."""
    embedding_std: Deviation = 0.3
    """Standard deviation of the initial vectors."""
    query: Name = "query"
    """Bag of the words that the row's user asked for; empty in the feed."""
    past_queries: Name = "past_queries"
    """Bag of words of the user's earlier queries."""
    item_queries: Name = "item_queries"
    """Bag of words of queries that led to the item."""
    demand_weight: Weight = 5.0
    """Weight of the distance between the demand made up for a search row and its query."""
    translation_weight: Weight = 1.0
    """Weight of the cross-entropy of user + demand − item alone."""
