"""How may YAML change the encoding of a feature? The choices, without the code that applies them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from features.declaration import Frozen, Name

ORDERED = ("sequence", "bag", "elapsed")
"""Kinds whose values have an order, of which the newest are kept."""


class FieldEncoding(Frozen):
    """Encoding of one feature; every key left out keeps the default of the feature's Feast dtype.

    Attributes:
        kind: `vocabulary` indexes the values of the training split; `hash` maps any value to one of
            `buckets` rows; `normalise` is (x − mean) / std, without sentinels far from all other values;
            `bin` cuts at training quantiles into `buckets` embedded rows; `sequence` is an ordered history; `bag` an
            unordered set; `elapsed` turns the times of a history (int64 µs since 1970 UTC) into seconds before the
            request; `vector` passes `length` numbers on as they are, for a vector that another model computed.
        buckets: rows of a hash or bin encoding.
        min_count: values rarer than this in the training split count as unknown.
        shares: feature whose vocabulary and embedding table this one uses.
        length: longest history kept, its newest end; width of a vector.
        order: how the column lists a history: its newest value first, as recipes do, or its oldest. The ranker reads
            it newest first either way.
        timed_by: the `elapsed` feature with the times of this history.
    """

    kind: Literal["vocabulary", "hash", "normalise", "bin", "sequence", "bag", "elapsed", "vector"] | None = None
    buckets: int = Field(10_000, ge=2)
    min_count: int = Field(1, ge=1)
    shares: Name | None = None
    length: int = Field(50, ge=1, le=1000)
    order: Literal["newest_first", "oldest_first"] = "newest_first"
    timed_by: Name | None = None

    @model_validator(mode="after")
    def _an_order_of_values(self) -> Self:
        if self.order == "oldest_first" and self.kind not in (None, *ORDERED):
            raise ValueError(f"order says how a list of values is read, and {self.kind!r} reads none: leave it out")
        return self
