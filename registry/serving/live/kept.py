"""What is known of keys that were asked for lately? A column per feature, so that a thousand items cost a few copies.

A value for each item in an object of its own would cost a question of a thousand candidates more than its model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from features.joins.online_read import Held, Key

Column = np.ndarray[Any, np.dtype[np.object_]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Marks = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.int64]]
Asked = tuple[str, tuple[str, ...]]
"""A view and the features that are wanted of it."""
_FIRST = 1024
"""Keys that a shelf has room for at first."""


@dataclass
class Found:
    """What a view holds of K keys, in their order."""

    columns: list[Column]
    """By feature, object ``[K]``: a number, a text or a list; None where there is none."""
    at: Numbers
    """float64 ``[K]``: when that was so, in seconds since 1970 UTC; NaN where nobody says."""
    held: Marks
    """bool ``[K]``: whether the view holds anything."""
    told: Marks
    """bool ``[K]``: whether the store said so, now or earlier; where it did not, nobody knows."""
    late: bool = False
    """Whether the store did not answer in time."""
    kept: int = 0
    """How many of the keys had been kept from earlier questions."""

    @classmethod
    def nothing(cls, keys: int, names: int) -> Found:
        """Return that nobody knows anything."""
        columns: list[Column] = [np.full(keys, None, dtype=object) for _ in range(names)]
        return cls(columns, np.full(keys, np.nan), np.zeros(keys, dtype=bool), np.zeros(keys, dtype=bool))

    def put(self, places: Sequence[int] | Places, answers: Sequence[Held | None]) -> None:
        """Write down what a view holds of the keys at some places."""
        for place, held in zip(places, answers, strict=True):
            self.told[place] = True
            if held is not None:
                self.held[place] = True
                self.at[place] = np.nan if held.at is None else held.at
                for column, value in zip(self.columns, held.values, strict=True):
                    column[place] = value

    def _copy(self, places: Marks | slice, other: Found, slots: Places) -> None:
        for mine, its in zip(self.columns, other.columns, strict=True):
            mine[places] = its[slots]
        self.at[places], self.held[places], self.told[places] = other.at[slots], other.held[slots], True


class _Shelf:
    """The answers of one view, each key's in a slot of its own."""

    def __init__(self, names: int, most: int) -> None:
        self.most, self.names = most, names
        self.slots: dict[Key, int] = {}
        """Those that were renewed last come last."""
        self.made = Found.nothing(min(most, _FIRST), names)
        self.until = np.zeros(len(self.made.at))

    def keep(self, key: Key, until: float) -> int:
        """Return the slot of a key, from now on the newest; the oldest key makes room where there is none."""
        slot = self.slots.pop(key, None)
        if slot is None:
            if len(self.slots) >= self.most:
                slot = self.slots.pop(next(iter(self.slots)))
            else:
                slot = len(self.slots)  # as many slots as keys: none is ever given back
                if slot == len(self.until):
                    self._grow()
        self.slots[key], self.until[slot] = slot, until
        return slot

    def _grow(self) -> None:
        more = Found.nothing(min(2 * len(self.until), self.most), self.names)
        more._copy(slice(len(self.until)), self.made, np.arange(len(self.until)))
        self.until = np.concatenate([self.until, np.zeros(len(more.at) - len(self.until))])
        self.made = more


class ItemCache:
    """What views hold of items, for a while; when there are too many, the oldest make room."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep at most `most` answers of each view for `seconds` each."""
        self._most, self._seconds, self._clock = most, seconds, clock
        self._shelves: dict[Asked, _Shelf] = {}
        self._lock = threading.Lock()

    def fill(self, asked: Asked, keys: Sequence[Key], found: Found, *, stale: bool = False) -> None:
        """Write into `found` what is kept of keys that nobody told of; with `stale` also what was kept for too long."""
        with self._lock:
            shelf = self._shelves.get(asked)
            if shelf is None:
                return
            slots = np.fromiter(map(shelf.slots.get, keys, repeat(-1)), np.int64, len(keys))
            known = (slots >= 0) & ~found.told
            if not stale:
                known &= shelf.until[slots] > self._clock()
            if known.all():
                found._copy(slice(None), shelf.made, slots)
            elif known.any():
                found._copy(known, shelf.made, slots[known])
            if not stale:
                found.kept += int(known.sum())

    def keep(self, asked: Asked, keys: Sequence[Key], answers: Sequence[Held | None]) -> None:
        """Remember what a view holds of keys, each of which is there once."""
        if not self._most:
            return
        until = self._clock() + self._seconds
        with self._lock:
            shelf = self._shelves.setdefault(asked, _Shelf(len(asked[1]), self._most))
            nobody = Held((None,) * len(asked[1]), None)
            slots = [shelf.keep(key, until) for key in keys]
            shelf.made.put(slots, [held or nobody for held in answers])  # over what older keys left there
            shelf.made.held[slots] = [held is not None for held in answers]

    def clear(self) -> None:
        """Forget everything, as after a materialisation."""
        with self._lock:
            self._shelves.clear()
