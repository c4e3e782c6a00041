"""How may YAML change the encoding of a feature? The choices, without the code that applies them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from features.declaration import Frozen, Name


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
        length: longest history kept; width of a vector.
        timed_by: the `elapsed` feature with the times of this history.
    """

    kind: Literal["vocabulary", "hash", "normalise", "bin", "sequence", "bag", "elapsed", "vector"] | None = None
    buckets: int = Field(10_000, ge=2)
    min_count: int = Field(1, ge=1)
    shares: Name | None = None
    length: int = Field(50, ge=1, le=1000)
    timed_by: Name | None = None
