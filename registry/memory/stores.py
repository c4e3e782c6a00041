"""Which store does a choice make, and how does one come back from its saved tensors?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from features.declaration import Name
from registry.memory.exact import Exact
from registry.memory.neighbours import Store
from registry.memory.planes import Planes
from registry.memory.sketch import Sketch, SketchShape
from registry.memory.spec import ExactStore, SketchStore

Array = np.ndarray[Any, Any]


def sketch_shape(choice: SketchStore, width: int, seed: int) -> SketchShape:
    """Return where keys of this width fall."""
    return SketchShape(arrays=choice.arrays, bits=choice.bits, width=width, seed=seed)


def empty_store(choice: SketchStore | ExactStore, width: int, seed: int, tasks: tuple[Name, ...]) -> Store:
    """Return a store that has seen no row."""
    if isinstance(choice, SketchStore):
        return Sketch.empty(sketch_shape(choice, width, seed), tasks)
    return Exact.empty(choice, width, seed, tasks)


def fingerprint(choice: SketchStore | ExactStore, width: int, seed: int) -> str:
    """Return the sha256 of what a sketch hashes with; empty for an exact store, which hashes no key to find it."""
    return sketch_shape(choice, width, seed).fingerprint() if isinstance(choice, SketchStore) else ""


def layout(
    choice: SketchStore | ExactStore, width: int, tasks: tuple[Name, ...], rows: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every saved tensor of a store that stands for `rows` rows."""
    if isinstance(choice, SketchStore):
        size: tuple[int, ...] = (choice.arrays, 1 << choice.bits)
        own = {"count": size}
    else:
        size = (rows,)
        own = {"keys": (rows, width), "weight": size, "priority": size}
    return own | {f"{kind}/{task}": size for kind in ("label", "predicted") for task in tasks}


def restored(
    choice: SketchStore | ExactStore, width: int, seed: int, tasks: tuple[Name, ...], tensors: Mapping[str, Array]
) -> Store:
    """Return the store that these tensors, of the shapes of `layout`, are the state of."""
    label, predicted = ({task: tensors[f"{kind}/{task}"] for task in sorted(tasks)} for kind in ("label", "predicted"))
    if isinstance(choice, SketchStore):
        shape = sketch_shape(choice, width, seed)
        return Sketch(shape, tensors["count"], label, predicted, Planes.of(shape.projections()))
    return Exact(choice, width, seed, tensors["keys"], tensors["weight"], tensors["priority"], label, predicted)
