"""What was learned of one feature from the training split?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.declaration import Frozen, Name

Kind = Literal["vocabulary", "hash", "number", "normalise", "bin", "sequence", "bag", "elapsed", "vector"]
LISTS = ("sequence", "bag", "elapsed", "vector")
"""Kinds of features with several values per row."""
ORDERED_OR_BAG = ("sequence", "bag", "elapsed")
"""Kinds whose rows hold as many values as they like."""
NUMBERS = ("number", "normalise", "bin")
"""Kinds of features with one number per row."""


class FittedField(Frozen):
    """How one feature is encoded, with what was learned from the training split."""

    name: Name
    """Feature and column name."""
    kind: Kind
    """See `features.declaration.FieldEncoding`."""
    dtype: str
    """Feast dtype of the column, such as ``int64``, ``float32`` or ``array<string>``."""
    table: Name | None = None
    """Feature whose vocabulary, and so whose embedding table, is used; None for numbers."""
    buckets: int = 0
    """Rows of a hash encoding."""
    length: int = 0
    """Longest history kept; width of a vector."""
    order: Literal["newest_first", "oldest_first"] = "newest_first"
    """How the column lists a history, see `features.declaration.FieldEncoding`."""
    timed_by: Name | None = None
    """Feature with the times of this history."""
    request_time: Name | None = None
    """Column with the time of the request, of which an elapsed time is counted back."""
    mean: float = 0.0
    """Training mean of a normalised number, without values far from the others: see `features.moments`."""
    scale: float = 1.0
    """Training standard deviation of the same, 1 where it is constant."""
    edges: tuple[float, ...] = ()
    """Inner edges of a binned number; of a `number` the training quantiles, ascending."""
    scores: tuple[float, ...] = Field((), exclude_if=lambda scores: not scores)
    """Normal scores of the `edges` of a `number`."""
    misses: bool = Field(False, exclude_if=lambda misses: not misses)
    """Whether the training split misses values of a `number`; where it does not, nothing was learned of them."""
    time: bool = False
    """Whether the column held times, which are read as seconds since 1970 UTC."""
    content: int = Field(0, exclude_if=lambda width: width == 0)
    """Width of the vectors that values of its table have, see `features.declaration.FieldSpec`."""
    content_by: str = Field("", exclude_if=lambda maker: not maker)
    """What made those vectors; a ranker that learned to read them reads no others."""
