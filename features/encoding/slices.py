"""Where do the lists of rows lie? Each is a slice of one array, which rows of the same user may share.

A history of a thousand events costs a row two numbers, and a batch copies the slices that it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.declaration import MISSING_ELEMENT, PADDING
from features.joins.histories import is_view

Array = NDArray[Any]
Whole = NDArray[np.signedinteger[Any]]
At = NDArray[np.int64] | slice
NEVER = -1.0
"""Elapsed seconds where there is no event, or it lies after the request."""
NO_TIME = int(MISSING_ELEMENT["int64"])
"""Time of an event whose time is missing."""


@dataclass(frozen=True)
class Slices:
    """The lists of one field, newest value first."""

    values: Array
    """``[E]``: indices of any integer type, or times in int64 µs since 1970 UTC."""
    starts: Whole
    """``[rows]``, where each list begins."""
    counts: Whole
    """``[rows]``, how many values it holds, at most `length`."""
    length: int
    """Most values of a list, and the width of `padded`."""
    requests: NDArray[np.int64] | None = None
    """``[rows]``, times of the requests in µs since 1970 UTC, where the values are times: a row then reads how many
    seconds lie between."""

    def __len__(self) -> int:
        """Return the number of lists."""
        return len(self.starts)

    @property
    def timed(self) -> bool:
        """Whether values are times."""
        return self.requests is not None

    def __getitem__(self, rows: At) -> Slices:
        """Return the lists of some rows, of the same values."""
        requests = None if self.requests is None else self.requests[rows]
        return replace(self, starts=self.starts[rows], counts=self.counts[rows], requests=requests)

    def count(self, marked: NDArray[np.bool_]) -> int:
        """Return how many values of all lists are marked, of bool ``[E]``; one that rows share counts for each."""
        running = np.concatenate(([0], np.cumsum(marked)))
        return int((running[self.starts + self.counts] - running[self.starts]).sum())

    def offsets(self) -> NDArray[np.int64]:
        """Return int64 ``[rows + 1]``: where each list begins when they lie one after the other."""
        return np.concatenate(([0], np.cumsum(self.counts, dtype=np.int64)))

    def places(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return int64 ``[N]``, where in `values` each value of each list lies."""
        return np.arange(offsets[-1]) + np.repeat(self.starts - offsets[:-1], self.counts)

    def read(self, places: NDArray[np.int64]) -> Array:
        """Return what all lists hold, one after the other: int64 indices, or float32 seconds."""
        taken = np.take(self.values, places)
        if self.requests is None:
            return taken.astype(np.int64, copy=False)
        return seconds_before(np.repeat(self.requests, self.counts), taken)

    def padded(self) -> Array:
        """Return ``[rows, length]``, the same with 0, or −1 for seconds, after each list."""
        offsets = self.offsets()
        values = self.read(self.places(offsets))
        made = np.full((len(self), self.length), PADDING if self.requests is None else NEVER, dtype=values.dtype)
        cells = np.arange(offsets[-1]) + np.repeat(np.arange(len(self)) * self.length - offsets[:-1], self.counts)
        made.reshape(-1)[cells] = values
        return made


def seconds_before(requests: NDArray[np.int64], times: Array) -> NDArray[np.float32]:
    """Return float32 seconds from times to requests, both int64 µs since 1970 UTC; −1 where that is in the future.

    Subtracted as whole microseconds: a float32 holds no time since 1970 to the second. Whatever lies after the
    request, however little, stays visibly below zero.
    """
    known = times.astype(np.int64, copy=False)
    missing = known == NO_TIME
    since = requests - np.where(missing, 0, known)
    return np.where(missing | (since < 0), NEVER, since / 1e6).astype(np.float32)


def slices_of(column: pa.Array, length: int) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int32]]:
    """Return the values of a column of lists and the slices of its rows, the first `length` values of each.

    Args:
        column: a list array, or a list view, whose rows may share values; newest value first.
        length: most values of a row.
    """
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int32)
    if is_view(column.type):
        values, starts = column.values, column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        values = column.flatten()
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
    return values, starts, np.minimum(lengths, length).astype(np.int32)


def never_late(times: Slices) -> bool:
    """Return whether every event of every list has a time, and one not after its row's request."""
    held = times.counts > 0
    starts, ends = times.starts[held], times.starts[held] + times.counts[held]
    # Compared, not subtracted: what stands for a missing time is as far from any time as int64 reaches.
    rises = np.concatenate(([0], np.cumsum(times.values[1:] > times.values[:-1])))
    if not len(starts) or times.requests is None:
        return True
    if (rises[ends - 1] > rises[starts]).any():  # the newest is not the first: every one has to be asked
        offsets = times.offsets()
        return bool((times.read(times.places(offsets)) >= 0).all())
    # Times fall within a list, so the first is the latest, and one that is missing, the least of all, would be last.
    late = times.values[starts] > times.requests[held]
    return not bool(late.any() or (times.values[ends - 1] == NO_TIME).any())


def stream(times: Slices, attributes: Mapping[str, Slices]) -> tuple[Slices, dict[str, Slices]]:
    """Return the times and attributes of the same events, at the very same places, of those that a request may know.

    An event without a time, or after the request, is there no more; one without an id keeps its place, so that the
    attributes of an event stay side by side.
    """
    if all(same_places(each, times) for each in attributes.values()) and never_late(times):
        return times, {name: at_places_of(times, each) for name, each in attributes.items()}
    own = apart(times)
    seen = own.read(own.places(own.offsets())) >= 0
    there = np.arange(own.length) < own.counts[:, None]
    found = {}
    for name, each in attributes.items():
        ids = np.where(seen, each.padded()[there], PADDING).astype(each.values.dtype)
        found[name] = Slices(ids, own.starts, own.counts, own.length)
    return own, found


def same_places(one: Slices, other: Slices) -> bool:
    """Return whether the lists of both lie at the same places of their values."""
    return np.array_equal(one.starts, other.starts) and np.array_equal(one.counts, other.counts)


def at_places_of(times: Slices, attribute: Slices) -> Slices:
    """Return an attribute with the very bounds of its times, so that a reader sees that they are equal."""
    return replace(attribute, starts=times.starts, counts=times.counts)


def apart(slices: Slices) -> Slices:
    """Return the same lists one after the other, which share nothing."""
    taken = np.take(slices.values, slices.places(slices.offsets()))
    return replace(slices, values=taken, starts=_starts(slices.counts))


def joined(parts: Iterable[Slices]) -> Slices:
    """Return the lists of several blocks of rows, which are slices of the same values."""
    blocks = list(parts)
    requests = [block.requests for block in blocks if block.requests is not None]
    return replace(
        blocks[0],
        starts=np.concatenate([block.starts for block in blocks]),
        counts=np.concatenate([block.counts for block in blocks]),
        requests=np.concatenate(requests) if requests else None,
    )


def narrow(indices: NDArray[Any], size: int) -> NDArray[Any]:
    """Return indices below `size` in the smallest integer type that holds them."""
    signed = np.int32 if size <= 1 << 31 else np.int64
    return indices.astype(np.min_scalar_type(max(size - 1, 0)) if size <= 1 << 16 else signed, copy=False)


def _starts(counts: Whole) -> NDArray[np.int64]:
    return np.cumsum(counts, dtype=np.int64) - counts
