"""What did a key do within a span that ends at any moment, or with a weight that halves? Both without a loop over rows.

Events lie in the order of their keys and, within a key, of their times. What they add up to in a span is then the
difference of two running totals, so a moment costs the same however many events its span holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

Whole = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
_MICROSECOND = timedelta(microseconds=1)
_HALVINGS = 200
"""Half-lives of a block: weights of one block, relative to its start, stay far below the largest float64."""


def groups(frame: pl.DataFrame, keys: Sequence[str]) -> Whole:
    """Return for each row which key it belongs to: 0, 1, ... in the order in which the keys lie."""
    other = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift(1)) for key in keys)
    return np.asarray(frame.select(other.cum_sum().cast(pl.Int64) - 1).to_series().to_numpy())


@dataclass(frozen=True)
class Spans:
    """The moments at which a key's windows change, and which events each window holds then.

    A moment is a time of events, or one at which events leave a span.
    """

    times: Whole
    """``[moments]``, µs, ascending within a key."""
    newest: Whole
    """``[moments]``, position of the newest state: the events of one key and time."""
    stands: np.ndarray[Any, np.dtype[np.bool_]]
    """``[moments]``, whether the moment is that state's own time."""
    ends: Whole
    """``[moments]``, position after the newest event."""
    heads: Whole
    """``[moments]``, position of the key's first event."""
    starts: dict[timedelta, Whole]
    """By span, ``[moments]``: position of the first event inside; `ends` where there is none."""

    def total(self, span: timedelta, values: Whole) -> Whole:
        """Return the sums of whole numbers of the events inside a span."""
        running = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
        return running[self.ends] - running[self.starts[span]]

    def total_float(self, span: timedelta, values: Floats, group: Whole) -> Floats:
        """Return the sums of floats; running totals begin anew at each key, so that none depends on another key."""
        running = np.concatenate(([0.0], _cum_sum(values, group)))
        starts = self.starts[span]
        return running[self.ends] - np.where(starts > self.heads, running[starts], 0.0)

    def distinct(self, span: timedelta, before: Whole, after: Whole) -> Whole:
        """Return how many different values are inside: those that came, less those whose last occurrence has left.

        Args:
            span: one of the spans.
            before: µs since the same value before, per event; negative where the value is missing.
            after: µs until the same value comes next, likewise.
        """
        length = span // _MICROSECOND
        came = np.concatenate(([0], np.cumsum(before >= length)))
        gone = np.concatenate(([0], np.cumsum(after >= length)))
        heads, starts = self.heads, self.starts[span]
        return came[self.ends] - came[heads] - (gone[starts] - gone[heads])


def spans(group: Whole, times: Whole, lasts: Whole, lengths: Sequence[timedelta], end: int) -> Spans:
    """Find the moments before `end` at which one of the spans changes.

    Args:
        group: int64 ``[states]``, key of each state, ascending.
        times: int64 ``[states]``, µs, ascending within a key.
        lasts: int64 ``[states]``, position of each state's last event.
        lengths: the spans, each once.
        end: µs, exclusive.
    """
    leaves = [times + length // _MICROSECOND for length in lengths]
    kept = [np.ones(len(times), dtype=bool), *(leave < end for leave in leaves)]
    moments = pl.DataFrame(
        {
            "group": np.concatenate([group[keep] for keep in kept]),
            "time": np.concatenate([each[keep] for each, keep in zip((times, *leaves), kept, strict=True)]),
            "kind": np.repeat(np.arange(len(kept), dtype=np.int16), [int(keep.sum()) for keep in kept]),
        }
    ).sort("group", "time")
    of, at, kind = (moments[name].to_numpy() for name in moments.columns)
    is_last = np.append((of[1:] != of[:-1]) | (at[1:] != at[:-1]), True)[: len(of)]
    begins = np.flatnonzero(np.diff(of, prepend=-1))  # a key's first moment is a state
    newest = np.cumsum(kind == 0)[is_last] - 1
    first_state = np.searchsorted(group, group[newest])
    bounds = np.concatenate(([0], lasts + 1))
    starts = {}
    for number, length in enumerate(lengths, 1):
        left = np.cumsum(kind == number)
        before = np.concatenate(([0], left))[begins]
        starts[length] = bounds[first_state + left[is_last] - before[of[is_last]]]
    stands = at[is_last] == times[newest]
    return Spans(at[is_last], newest, stands, bounds[newest + 1], bounds[first_state], starts)


def decayed(values: Floats, group: Whole, times: Whole, half_life: timedelta) -> Floats:
    """Return the sum of each key's values so far, each halved for every half-life that it lies back.

    Weights grow with time within a block, and a block takes over what the one before ended with; older ones have less
    than 2⁻²⁰⁰ of their weight left and count as nothing. Blocks lie on the calendar, so no value depends on what
    comes later.

    Args:
        values: float64 ``[events]``.
        group: int64 ``[events]``, key of each event, ascending.
        times: int64 ``[events]``, µs, ascending within a key.
        half_life: time in which a weight halves.
    """
    half = half_life // _MICROSECOND
    block = times // (_HALVINGS * half)
    age = (times - block * (_HALVINGS * half)) / half
    begins = np.append(True, (group[1:] != group[:-1]) | (block[1:] != block[:-1]))[: len(values)]
    run = np.cumsum(begins) - 1
    inside = _cum_sum(values * np.exp2(age), run)
    first = np.flatnonzero(begins)
    follows = (first > 0) & (group[first] == group[first - 1]) & (block[first] == block[first - 1] + 1)
    carried = np.where(follows, inside[first - 1] * 2.0**-_HALVINGS, 0.0)
    return (inside + carried[run]) * np.exp2(-age)


def _cum_sum(values: Floats, run: Whole) -> Floats:
    frame = pl.DataFrame({"value": values, "run": run})
    return np.asarray(frame.select(pl.col("value").cum_sum().over("run")).to_series().to_numpy())
