"""What must a store of an error memory offer? Rows in, neighbours out, and forgetting at the end of a slot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from features.ground.errors import BadInputError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Neighbours:
    """What a store knows about each of B queries, by K neighbours: arrays of a sketch, or rows."""

    count: Array
    """float64 ``[B, K]``, rows that a neighbour stands for: those of its bucket, or the age weight of one row; 0 marks
    a neighbour that holds nothing, whose means say nothing."""
    similarity: Array
    """float64 ``[B, K]``, what the softmax compares."""
    support: Array
    """float64 ``[B]``, rows behind the answer: n of the shrinkage."""
    label: dict[str, Array]
    """By task: float64 ``[B, K]``, mean label, 0 where there is none."""
    predicted: dict[str, Array]
    """By task: float64 ``[B, K]``, mean base prediction, 0 where there is none."""


class Store(Protocol):
    """What the replay and the read-out ask of a store; `Sketch` and `Exact` are the two."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose labels and predictions are stored, sorted."""

    @property
    def rows(self) -> int:
        """Rows it stands for, to the nearest whole one: decay and down-sampling lower it."""

    def write(self, keys: Array, label: Mapping[str, Array], predicted: Mapping[str, Array]) -> None:
        """Add labelled rows."""

    def read(self, keys: Array, tasks: Collection[str] | None = None) -> Neighbours:
        """Return the neighbours of these keys, with what is held of some tasks at least, of all when left out."""

    def forget(self, kept: float) -> None:
        """Let everything held count `kept` times what it did."""

    def tensors(self) -> dict[str, Array]:
        """Return the state by name, as it is saved."""


def check_keys(keys: Array, width: int) -> None:
    """Check the keys of rows.

    Raises:
        BadInputError: they have another width than `width`, or are not finite.
    """
    if keys.ndim != 2 or keys.shape[1] != width:
        raise BadInputError(
            f"keys of shape {list(keys.shape)} do not fit an error memory of key width {width}: "
            "rebuild the memory with the model that makes these keys"
        )
    if not np.isfinite(keys).all():
        raise BadInputError("keys of the error memory hold NaN or infinity: check the model's hidden output")


def check_rows(tasks: tuple[str, ...], keys: Array, label: Mapping[str, Array], predicted: Mapping[str, Array]) -> None:
    """Check labelled rows before anything is written.

    Raises:
        BadInputError: a task is missing, a length differs, or a value lies outside [0, 1].
    """
    for what, given in (("labels", label), ("predictions", predicted)):
        if not set(tasks) <= set(given):
            raise BadInputError(
                f"{what} for {sorted(given)} do not cover the error memory's tasks {list(tasks)}: pass all"
            )
        for task in tasks:
            values = np.asarray(given[task])
            if values.shape != (len(keys),):
                raise BadInputError(f"{what} of {task!r} have shape {list(values.shape)} for {len(keys)} keys")
            if not ((values >= 0) & (values <= 1)).all():
                raise BadInputError(f"{what} of {task!r} lie outside [0, 1] or are missing: nothing was written")


def check_share(kept: float) -> None:
    """Check a decay.

    Raises:
        BadInputError: it lies outside (0, 1].
    """
    if not 0 < kept <= 1:
        raise BadInputError(f"an error memory cannot keep {kept:g} of its rows: decay lies above 0 and at most at 1")
