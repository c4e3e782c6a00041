"""How may YAML change the encoding of a feature? The choices, without the code that applies them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.declaration import Frozen, Name


class FieldEncoding(Frozen):
    """Encoding of one feature; every key left out keeps the default of the feature's Feast dtype.

    Attributes:
        kind: `vocabulary` indexes the values of the training split; `hash` maps any value to one of
            `buckets` rows; `normalise` is (x − mean) / std; `bin` cuts at training quantiles into
            `buckets` embedded rows; `sequence` is an ordered history; `bag` an unordered set.
        buckets: rows of a hash or bin encoding.
        min_count: values rarer than this in the training split count as unknown.
        shares: feature whose vocabulary and embedding table this one uses.
        length: longest history kept.
    """

    kind: Literal["vocabulary", "hash", "normalise", "bin", "sequence", "bag"] | None = None
    buckets: int = Field(10_000, ge=2)
    min_count: int = Field(1, ge=1)
    shares: Name | None = None
    length: int = Field(50, ge=1, le=1000)
