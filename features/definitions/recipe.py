"""How is the table behind a Feast source computed from logged events? Two recipes, as data.

A recipe stands next to the source it fills; `features.recipes.table` executes it. Both give rows that are
valid from their `event_timestamp` on and were known from their `created_timestamp` on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from features.declaration import LONGEST
from features.rules.parse import Rule, parse

IMPRESSIONS = "events"
"""The log of impressions in an events table; a table may hold further logs (`<name>.parquet`) beside it."""
_LONGEST = timedelta(days=36_525)


@dataclass(frozen=True)
class Last:
    """Only events of a span that ends at the moment asked; give one unit.

    Exact at every moment: the table has a row also when an event leaves the span, so that a key that was silent for
    longer has 0. An impression at noon sees, of `Last(hours=1)`, the events from 11:00 on and before 12:00.
    """

    days: int | None = None
    """Length of the span in days of 24 hours."""
    hours: int | None = None
    """Length in hours."""
    minutes: int | None = None
    """Length in minutes."""

    def __post_init__(self) -> None:
        _one_unit(self)

    @property
    def span(self) -> timedelta:
        """Length of the span."""
        return _length(self)

    @property
    def suffix(self) -> str:
        """Last part of the feature's name: `7d`, `24h`, `30min`."""
        return _suffix(self)


@dataclass(frozen=True)
class Decay:
    """All events, each with a weight that halves in the time given; give one unit.

    The value stands as it was at the key's newest event, and does not fade until the next.
    """

    days: int | None = None
    """Half-life in days of 24 hours."""
    hours: int | None = None
    """Half-life in hours."""

    def __post_init__(self) -> None:
        _one_unit(self)

    @property
    def span(self) -> timedelta:
        """The half-life."""
        return _length(self)

    @property
    def suffix(self) -> str:
        """Last part of the feature's name: `half7d`, `half12h`."""
        return f"half{_suffix(self)}"


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
    """Event column of 0 and 1; a missing one counts as 0."""
    prior: float
    """Rate of a key without impressions; a constant, because one computed from the data would tell early rows about
    later labels."""
    weight: float = 10.0
    """Impressions that the prior counts for."""
    over: Last | Decay | None = None
    """Which events count; all so far when left out."""


@dataclass(frozen=True)
class Sum:
    """What a column adds up to."""

    column: str
    """Event column of numbers; whole ones add up exactly. A missing one counts as 0."""
    days: int | None = None
    """Instead of `over`: a span of days that ends at the key's newest event, its start excluded. It needs no further
    rows, and a key that falls silent keeps its last sum until the view's TTL."""
    over: Last | Decay | None = None
    """Which events count; all so far when left out."""

    def __post_init__(self) -> None:
        if self.days is not None and self.over is not None:
            raise ValueError(f"Sum of {self.column!r} takes days or over, not both")


@dataclass(frozen=True)
class Count:
    """How many events there are."""

    where: str | None = None
    """Column of 0 and 1 that tells which are counted, or a rule such as ``rating >= 4 and tab in (1, 4)``; all of them
    when left out."""
    over: Last | Decay | None = None
    """Which events count; all so far when left out."""
    name: str = ""
    """Word for the condition in the feature's name; the column of `where` when left out, needed for a rule."""

    def __post_init__(self) -> None:
        if self.where is not None:
            _require_name(self.where, self.name)


@dataclass(frozen=True)
class Distinct:
    """How many different values a column has; a missing one is none."""

    column: str
    """Event column, such as the item's category."""
    over: Last | None = None
    """Which events count; all so far when left out."""


@dataclass(frozen=True)
class Since:
    """Seconds between the last event that meets a condition and the key's newest event: 0 if that is the one.

    Null before the first. A history of one time (`History({...: "event_timestamp"}, length=1, where=...)`) tells the
    seconds up to the request instead.
    """

    where: str
    """Column of 0 and 1, or a rule, as in `Count`."""
    name: str = ""
    """Word for the condition in the feature's name; the column of `where` when left out, needed for a rule."""
    over: ClassVar[None] = None

    def __post_init__(self) -> None:
        _require_name(self.where, self.name)


@dataclass(frozen=True)
class History:
    """The newest events of a key, most recent first, one feature per listed column, position by position.

    Events of one timestamp are ordered by the first column, so that its largest value comes first.
    """

    columns: Mapping[str, str]
    """By feature name the event column to list, such as the item id; a time is listed as int64 µs since 1970 UTC, a
    missing label as 0."""
    length: int = 50
    """Most events kept, at most 10,000. It costs no space: a row refers to its events, which are stored once. The
    online store keeps as many as the `length` in the tags of the features says."""
    where: str | None = None
    """Column of 0 and 1 that tells which are listed, such as ``click``, or a rule, as in `Count`; all of them when left
    out."""

    def __post_init__(self) -> None:
        if not 1 <= self.length <= LONGEST:
            raise ValueError(f"a history of {self.length:,} events is not between 1 and {LONGEST:,}: shorten it")
        if self.where is not None:
            _rule(self.where)


Part = Rate | Sum | Count | Distinct | Since
"""What makes one number of an activity."""


@dataclass(frozen=True)
class Activity:
    """What a key has done so far: one row per key and timestamp, the state after all its events then.

    It gives ``<prefix>_impressions`` (int64, since the window's start; ``<prefix>_<log>`` of another log),
    ``<prefix>_gap_seconds`` (float64, between its last two timestamps, null before the second), one feature per part
    and the histories. `created_timestamp` is the latest one among the events so far, so a row
    that arrived late is invisible, with everything built on it, until it had arrived.

    A part over `Last` adds rows: one for each time at which an event leaves a span, where that changes a value. What is
    over no `Last` is repeated there, as of the key's newest event. A view's TTL counts from the newest row.
    """

    key: str | tuple[str, ...]
    """Column of the entity's id; several where a row is about a combination, such as a user and an author."""
    prefix: str
    """First part of the feature names."""
    rates: tuple[Rate, ...] = ()
    """``<prefix>_<feedback>_rate`` (float32), with the suffix of `over`: ``user_click_rate_7d``."""
    history: History | tuple[History, ...] | None = None
    """Lists, under the names that they give; several for several conditions."""
    log: str = IMPRESSIONS
    """Which log of the events table is read."""
    sums: tuple[Sum, ...] = ()
    """``<prefix>_<column>_<suffix>``, such as ``shopping_cents_28d``, or ``<prefix>_<column>_total`` (float64)."""
    counts: tuple[Count, ...] = ()
    """``<prefix>_impressions_<suffix>`` or, with a condition, ``<prefix>_<name>_count_<suffix>`` (int64; float64 with
    decay)."""
    distincts: tuple[Distinct, ...] = ()
    """``<prefix>_distinct_<column>_<suffix>`` (int64)."""
    since: tuple[Since, ...] = ()
    """``<prefix>_since_<name>_seconds`` (float64)."""

    def __post_init__(self) -> None:
        listed = (name for history in self.histories for name in history.columns)
        names = (*self.keys, self.count, self.gap, *map(self.name, self.parts), *listed)
        for name, times in Counter(names).items():
            if times > 1:
                raise ValueError(f"the activity {self.prefix!r} has {times} columns {name!r}: leave out or rename one")

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the key."""
        return _keys(self.key)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everything that makes one number, in the order of the fields."""
        return (*self.rates, *self.sums, *self.counts, *self.distincts, *self.since)

    @property
    def histories(self) -> tuple[History, ...]:
        """Everything that makes lists."""
        if self.history is None:
            return ()
        return (self.history,) if isinstance(self.history, History) else tuple(self.history)

    @property
    def reads(self) -> tuple[str, ...]:
        """Event columns that are read, each once."""
        columns = [rate.feedback for rate in self.rates]
        columns += [part.column for part in self.sums] + [part.column for part in self.distincts]
        for history in self.histories:
            columns += history.columns.values()
        for where in self.conditions:
            columns += _rule(where).columns
        return tuple(dict.fromkeys((*self.keys, *columns)))

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the parts and histories say in `where`, each once."""
        said = (*(part.where for part in self.counts), *(part.where for part in self.since))
        listed = (history.where for history in self.histories)
        return tuple(dict.fromkeys(where for where in (*said, *listed) if where is not None))

    @property
    def count(self) -> str:
        """Name of the feature that counts the key's events."""
        return f"{self.prefix}_{'impressions' if self.log == IMPRESSIONS else self.log}"

    @property
    def gap(self) -> str:
        """Name of the feature with the seconds between the last two timestamps."""
        return f"{self.prefix}_gap_seconds"

    def name(self, part: Part) -> str:
        """Name of the feature that a part makes."""
        if isinstance(part, Since):
            return f"{self.prefix}_since_{part.name or part.where}_seconds"
        suffix = f"_{part.over.suffix}" if part.over else ""
        if isinstance(part, Rate):
            return f"{self.prefix}_{part.feedback}_rate{suffix}"
        if isinstance(part, Sum):
            days = "_total" if part.days is None else f"_{part.days}d"
            return f"{self.prefix}_{part.column}{suffix or days}"
        if isinstance(part, Count):
            return (f"{self.prefix}_{part.name or part.where}_count" if part.where is not None else self.count) + suffix
        return f"{self.prefix}_distinct_{part.column}{suffix}"

    def dtype(self, part: Part) -> str:
        """Feast dtype of the feature that a part makes."""
        if isinstance(part, Rate):
            return "float32"
        whole = isinstance(part, Count | Distinct) and not isinstance(part.over, Decay)
        return "int64" if whole else "float64"


Recipe = Profile | Activity


def _keys(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)


def _rule(where: str) -> Rule:
    try:
        return parse(where)
    except ValueError as error:
        raise ValueError(f"where {where!r} {error}") from None


def _require_name(where: str, name: str) -> None:
    if _rule(where).flag != where and not name:
        raise ValueError(f"where {where!r} is a rule: give it a name=, which becomes part of the feature's name")


def _units(span: Last | Decay) -> dict[str, int]:
    return {unit: number for unit, number in vars(span).items() if number is not None}


def _one_unit(span: Last | Decay) -> None:
    given = _units(span)
    if len(given) != 1 or not all(isinstance(number, int) and number > 0 for number in given.values()):
        raise ValueError(f"{span} must have one of {', '.join(vars(span))}, a whole number above 0")
    [(unit, number)] = given.items()
    if number > (most := _LONGEST // timedelta(**{unit: 1})):
        raise ValueError(f"{span} must be at most {most:,} {unit}")


def _length(span: Last | Decay) -> timedelta:
    return timedelta(**_units(span))


def _suffix(span: Last | Decay) -> str:
    [(unit, number)] = _units(span).items()
    return f"{number}{'min' if unit == 'minutes' else unit[0]}"
