"""How is the table behind a Feast source computed from logged events? Two recipes, as data.

A recipe stands next to the source it fills; `features.tables` executes it. Both give rows that are
valid from their `event_timestamp` on and were known from their `created_timestamp` on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMPRESSIONS = "events"
"""The log of impressions in an events table; a table may hold further logs (`<name>.parquet`) beside it."""


@dataclass(frozen=True)
class Profile:
    """Attributes of an entity that rarely change: one row per key and value.

    The first row stands 1 µs before the key's first impression, in both timestamps: attributes are
    known from signup or from the catalogue, so even the first impression may use them. A changed
    attribute gives one more row at the impression that first carried it, so an old impression never
    sees a new value.
    """

    key: str | tuple[str, ...]
    """Column of the entity's id; several where a row is about a combination, such as a user and an author."""
    columns: tuple[str, ...]
    """Event columns that are attributes of the key."""
    log: str = IMPRESSIONS
    """Which log of the events table is read."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the key."""
        return _keys(self.key)

    @property
    def reads(self) -> tuple[str, ...]:
        """Event columns that are read besides the two times, each once."""
        return tuple(dict.fromkeys((*self.keys, *self.columns)))


@dataclass(frozen=True)
class Rate:
    """A smoothed share of positives: ``(positives + weight · prior) / (impressions + weight)``."""

    feedback: str
    prior: float
    """Rate of a key without impressions; a constant, because one computed from the data would tell early rows about
    later labels."""
    weight: float = 10.0
    """Impressions that the prior counts for."""


@dataclass(frozen=True)
class History:
    """The newest events of a key, most recent first, one feature per listed column, position by position.

    Events of one timestamp are ordered by the first column, so that its largest value comes first.
    """

    columns: Mapping[str, str]
    """By feature name the event column to list, such as the item id; a time is listed as int64 µs since 1970 UTC, a
    missing label as 0."""
    length: int = 50
    """Most events kept."""


@dataclass(frozen=True)
class Sum:
    """What a column added up to in the last days of a key, its newest event included."""

    column: str
    """Event column of numbers; whole ones add up exactly. A missing one counts as 0."""
    days: int
    """Length of the span, open at its start and closed at the newest event."""


@dataclass(frozen=True)
class Activity:
    """What a key has done so far: one row per key and timestamp, the state after all its events then.

    It gives ``<prefix>_impressions`` (int64, since the window's start; ``<prefix>_<log>`` of another log),
    ``<prefix>_<feedback>_rate`` (float32), ``<prefix>_<column>_<days>d`` (float64) per sum, ``<prefix>_gap_seconds``
    (float64, between its last two timestamps, null before the second) and the history. `created_timestamp` is the
    latest one among the events counted, so a row that arrived late is invisible, with everything built on it, until
    it had arrived.
    """

    key: str | tuple[str, ...]
    """Column of the entity's id; several where a row is about a combination, such as a user and an author."""
    prefix: str
    """First part of the feature names."""
    rates: tuple[Rate, ...] = ()
    history: History | None = None
    log: str = IMPRESSIONS
    """Which log of the events table is read."""
    sums: tuple[Sum, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the key."""
        return _keys(self.key)

    @property
    def reads(self) -> tuple[str, ...]:
        """Event columns that are read, each once."""
        listed = self.history.columns.values() if self.history else ()
        parts = (*(rate.feedback for rate in self.rates), *(part.column for part in self.sums))
        return tuple(dict.fromkeys((*self.keys, *parts, *listed)))

    @property
    def count(self) -> str:
        """Name of the feature that counts the key's events."""
        return f"{self.prefix}_{'impressions' if self.log == IMPRESSIONS else self.log}"

    def total(self, part: Sum) -> str:
        """Name of the feature with one of the sums."""
        return f"{self.prefix}_{part.column}_{part.days}d"


Recipe = Profile | Activity


def _keys(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)
