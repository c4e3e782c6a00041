"""How are memories that hold the same rows tried with one search? Record what each slot read, then play it again.

What a store holds and finds does not depend on τ, and the K nearest rows begin with the K − 1 nearest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from registry.memory.neighbours import Neighbours, Store

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Read:
    """What one slot found."""

    rows: int
    """Rows that the store stood for."""
    neighbours: Neighbours


@dataclass
class Recorder:
    """A store that notes what it answers."""

    store: Store
    reads: list[Read] = field(default_factory=list)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the store."""
        return self.store.tasks

    @property
    def rows(self) -> int:
        """Rows of the store."""
        return self.store.rows

    def write(self, keys: Array, label: Mapping[str, Array], predicted: Mapping[str, Array]) -> None:
        """Add labelled rows."""
        self.store.write(keys, label, predicted)

    def read(self, keys: Array, tasks: Collection[str] | None = None) -> Neighbours:
        """Return and note the neighbours of these keys."""
        self.reads.append(Read(rows=self.store.rows, neighbours=self.store.read(keys)))
        return self.reads[-1].neighbours

    def forget(self, kept: float) -> None:
        """Let everything held count `kept` times what it did."""
        self.store.forget(kept)

    def tensors(self) -> dict[str, Array]:
        """Return the state of the store."""
        return self.store.tensors()


@dataclass
class Player:
    """A store that answers what another one did over the same slots with the same ρ; it holds nothing itself."""

    reads: list[Read]
    nearest: int | None = None
    """How many of each row's neighbours to answer; all when left out."""
    rows: int = 0
    _next: Iterator[Read] = field(init=False)

    def __post_init__(self) -> None:
        self._next = iter(self.reads)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the other store."""
        return tuple(self.reads[0].neighbours.label)

    def write(self, keys: Array, label: Mapping[str, Array], predicted: Mapping[str, Array]) -> None:
        """Do nothing: the other store was written."""

    def read(self, keys: Array, tasks: Collection[str] | None = None) -> Neighbours:
        """Return the neighbours of the next slot."""
        read = next(self._next)
        self.rows = read.rows
        return read.neighbours if self.nearest is None else nearest(read.neighbours, self.nearest)

    def forget(self, kept: float) -> None:
        """Do nothing: the other store forgot."""

    def tensors(self) -> dict[str, Array]:
        """Return nothing: it has no state worth saving."""
        return {}


def nearest(found: Neighbours, count: int) -> Neighbours:
    """Return the first `count` neighbours of each row of an exact store, which come nearest first."""
    kept = slice(None, count)
    weight = found.count[:, kept]
    return Neighbours(
        count=weight,
        similarity=found.similarity[:, kept],
        support=weight.sum(axis=1),
        label={task: values[:, kept] for task, values in found.label.items()},
        predicted={task: values[:, kept] for task, values in found.predicted.items()},
    )
