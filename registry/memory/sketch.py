"""Where do rows with similar keys meet? A sketch of hashed buckets that hold sums instead of samples.

RACE-style count sketch as ReLoop2 uses it (Zhu et al., KDD 2023, section 4.3; Coleman & Shrivastava, 2020):
m arrays of 2^L buckets, each array indexed by the signs of L random projections. Two keys at angle θ
share a bucket of one array with probability (1 − θ/π)^L. Reading and writing cost O(m·L·width) per
row, however many rows the sketch has seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from features.declaration import Frozen, Name
from features.ground.errors import BadInputError
from registry.memory.neighbours import Neighbours, check_keys, check_rows, check_share
from registry.memory.planes import Planes

Array = np.ndarray[Any, Any]
CHUNK = 256
"""Rows projected at once: their ``[m·L, rows]`` product stays in the cache of a core, in memory that is used again."""
GRID = 2.0**30
"""Predictions are stored as multiples of 1/GRID, so that sums below 2^23 rows per bucket are exact:
the order of writes and the way a sketch was merged leave no trace in its bytes."""


class SketchShape(Frozen):
    """Everything that decides into which buckets a key falls."""

    arrays: int = Field(ge=1)
    """m, independent arrays."""
    bits: int = Field(ge=1, le=20)
    """L, signed projections per array."""
    width: int = Field(ge=1)
    """Width of a key."""
    seed: int = 0
    """Seed of the projections."""

    @property
    def buckets(self) -> int:
        """Buckets of one array, 2^L."""
        return 1 << self.bits

    def projections(self) -> Array:
        """Return the projections w ~ N(0, 1), float64 ``[width, L·m]``; column l·m + k is bit l of array k.

        They are `Generator(PCG64(seed)).standard_normal((width, L·m))`, so any process can draw them
        again; `fingerprint` tells whether it drew the same ones.
        """
        generator = np.random.Generator(np.random.PCG64(self.seed))
        return generator.standard_normal((self.width, self.bits * self.arrays))

    def fingerprint(self) -> str:
        """Return the sha256 of the projections' little-endian bytes."""
        return hashlib.sha256(self.projections().astype("<f8").tobytes()).hexdigest()


@dataclass(frozen=True)
class Sketch:
    """Sums per array and bucket. `write` and `forget` change the arrays in place; all else leaves them alone."""

    shape: SketchShape
    count: Array
    """float64 ``[m, 2^L]``, rows written (exact below 2^53 without decay)."""
    label: dict[str, Array]
    """By task: float64 ``[m, 2^L]``, Σ y."""
    predicted: dict[str, Array]
    """By task: float64 ``[m, 2^L]``, Σ ŷ_base."""
    planes: Planes
    """L·m of them, whose normals are `SketchShape.projections`."""

    @classmethod
    def empty(cls, shape: SketchShape, tasks: tuple[Name, ...]) -> Sketch:
        """Return a sketch that has seen no row."""
        size = (shape.arrays, shape.buckets)
        return cls(
            shape=shape,
            count=np.zeros(size),
            label={task: np.zeros(size) for task in sorted(tasks)},
            predicted={task: np.zeros(size) for task in sorted(tasks)},
            planes=Planes.of(shape.projections()),
        )

    def fresh(self) -> Sketch:
        """Return a sketch of the same shape and tasks that has seen no row; it shares the planes."""
        return Sketch(
            shape=self.shape,
            count=np.zeros_like(self.count),
            label={task: np.zeros_like(self.count) for task in self.label},
            predicted={task: np.zeros_like(self.count) for task in self.predicted},
            planes=self.planes,
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose labels and predictions are stored, sorted."""
        return tuple(self.label)

    @property
    def rows(self) -> int:
        """Rows it stands for: those written, each times the decay since."""
        return round(float(self.count[0].sum()))

    def buckets(self, keys: Array) -> Array:
        """Return the bucket of each key in each array.

        Args:
            keys: float ``[B, width]``.

        Returns:
            int64 ``[B, m]``: position in the flattened ``[m, 2^L]`` arrays.

        Raises:
            BadInputError: the keys have another width, or are not finite.
        """
        check_keys(keys, self.shape.width)
        found = np.empty((keys.shape[0], self.shape.arrays), dtype=np.int64)
        offsets = np.arange(self.shape.arrays, dtype=np.int64) * self.shape.buckets
        for start in range(0, keys.shape[0], CHUNK):
            above = self.planes.above(keys[start : start + CHUNK])
            # One bit of all arrays and rows lies in one piece, so that packing goes over memory in order.
            positive = above.reshape(self.shape.bits, self.shape.arrays, above.shape[1])
            index = np.zeros(positive.shape[1:], dtype=np.int32)
            for bit in range(self.shape.bits):
                index |= positive[bit].astype(np.int32) << np.int32(bit)
            found[start : start + CHUNK] = index.T + offsets
        return found

    def write(self, keys: Array, label: Mapping[str, Array], predicted: Mapping[str, Array]) -> None:
        """Add labelled rows.

        Args:
            keys: float ``[B, width]``.
            label: by task: 0 or 1, ``[B]``.
            predicted: by task: the base model's probability, ``[B]``.

        Raises:
            BadInputError: tasks or lengths differ from the sketch's, or a value lies outside [0, 1].
        """
        check_rows(self.tasks, keys, label, predicted)
        at = self.buckets(keys).reshape(-1)
        np.add.at(self.count.reshape(-1), at, 1.0)
        for task in self.tasks:
            for store, values in ((self.label, label), (self.predicted, predicted)):
                rounded = np.round(np.asarray(values[task], dtype=np.float64) * GRID) / GRID
                np.add.at(store[task].reshape(-1), at, np.repeat(rounded, self.shape.arrays))

    def read(self, keys: Array, tasks: Collection[str] | None = None) -> Neighbours:
        """Return what the buckets of these keys hold, of all tasks or some; arrays play the part of neighbours.

        The similarity of an array is log1p of its count, and the support of an answer the mean count.
        """
        wanted = [task for task in self.tasks if tasks is None or task in tasks]
        at = self.buckets(keys)
        count = self.count.reshape(-1)[at]
        divisor = np.where(count > 0, count, 1.0)
        return Neighbours(
            count=count,
            similarity=np.log1p(count),
            support=count.mean(axis=1),
            label={task: self.label[task].reshape(-1)[at] / divisor for task in wanted},
            predicted={task: self.predicted[task].reshape(-1)[at] / divisor for task in wanted},
        )

    def forget(self, kept: float) -> None:
        """Multiply every sum by `kept`: ρ at the end of a slot of time. Means of buckets stay as they are."""
        check_share(kept)
        for sums in (self.count, *self.label.values(), *self.predicted.values()):
            np.multiply(sums, kept, out=sums)

    def tensors(self) -> dict[str, Array]:
        """Return the sums by name, as they are saved."""
        return (
            {"count": self.count}
            | {f"label/{task}": sums for task, sums in self.label.items()}
            | {f"predicted/{task}": sums for task, sums in self.predicted.items()}
        )

    def merged(self, other: Sketch) -> Sketch:
        """Return the sketch of both sketches' rows: sums are additive, so writers may work apart.

        Raises:
            BadInputError: the sketches hash differently or hold other tasks.
        """
        if self.shape != other.shape or self.tasks != other.tasks:
            raise BadInputError(
                f"error memories of {self.shape} for {list(self.tasks)} and {other.shape} for {list(other.tasks)} "
                "cannot be merged: write both with one configuration"
            )
        return Sketch(
            shape=self.shape,
            count=self.count + other.count,
            label={task: sums + other.label[task] for task, sums in self.label.items()},
            predicted={task: sums + other.predicted[task] for task, sums in self.predicted.items()},
            planes=self.planes,
        )
