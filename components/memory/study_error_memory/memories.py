"""Which memories may a study choose from? One setting, or every combination of the values that were given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from features.declaration import Frozen
from registry.memory.spec import ExactStore, SketchStore, StoreChoice

Neighbours = Annotated[int, Field(ge=1, le=2048)]
Bits = Annotated[int, Field(ge=1, le=20)]
Temperature = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(gt=0, le=1)]
Number = TypeVar("Number", int, float)


class SketchStores(Frozen):
    """Hashed buckets of sums: fixed size, and reading costs the same after a thousand rows and after a billion."""

    kind: Literal["sketch"] = "sketch"
    """Hashed buckets."""
    arrays: int = Field(64, ge=1, le=1024)
    """Arrays of the sketch, m in the paper."""
    bits: Bits | Annotated[tuple[Bits, ...], Field(min_length=1)] = 10
    """Signed projections per array, L in the paper; more bits tell more rows apart, as fewer neighbours do. A list
    is chosen from on validation."""

    def each(self) -> Iterator[SketchStore]:
        """Return the stores, coarse to fine: each halves the rows that share a bucket."""
        return (SketchStore(arrays=self.arrays, bits=bits) for bits in sorted({*several(self.bits)}))


class ExactStores(Frozen):
    """The rows themselves, searched exactly for those with the most similar keys."""

    kind: Literal["exact"] = "exact"
    """Rows, searched exactly."""
    neighbours: Neighbours | Annotated[tuple[Neighbours, ...], Field(min_length=1)] = 70
    """Most similar rows that are read, K in the paper. A list is chosen from on validation."""
    capacity: int = Field(100_000, ge=1, le=10_000_000)
    """Most rows kept; beyond it a seeded random sample of all that were written."""
    threshold: float = Field(0.0, ge=0, le=1)
    """Rows whose base model was no further off than this in any task are not kept."""

    def each(self) -> Iterator[ExactStore]:
        """Return the stores, many neighbours to few."""
        sizes = sorted({*several(self.neighbours)}, reverse=True)
        return (ExactStore(neighbours=k, capacity=self.capacity, threshold=self.threshold) for k in sizes)


Stores = Annotated[SketchStores | ExactStores, Field(discriminator="kind")]
"""Where the memory keeps what it saw, its sizes one number or several to choose from."""


class Memory(Frozen):
    """One memory to try."""

    store: StoreChoice
    """What it keeps."""
    temperature: float
    """τ of the attention over neighbours."""
    decay: float
    """ρ, what everything older counts at the end of each slot."""

    def __str__(self) -> str:
        return f"{self.store}, τ {self.temperature:g}, ρ {self.decay:g}"


def several(given: Number | tuple[Number, ...]) -> tuple[Number, ...]:
    """Return the values of an option that takes one or a list."""
    return given if isinstance(given, tuple) else (given,)


def memories(
    stores: Iterable[SketchStore | ExactStore], temperatures: tuple[float, ...], decays: tuple[float, ...]
) -> tuple[Memory, ...]:
    """Return every combination, the plainer first: less fading, then a wider average.

    A wider average is one over more rows (more neighbours, fewer bits), then a flatter one (higher τ).
    """
    combined = product(sorted({*decays}, reverse=True), stores, sorted({*temperatures}, reverse=True))
    return tuple(Memory(store=store, temperature=t, decay=decay) for decay, store, t in combined)
