"""How is the table behind a Feast source computed from impressions? Two recipes, as data.

A recipe stands next to the source it fills; `features.tables` executes it. Both give rows that are
valid from their `event_timestamp` on and were known from their `created_timestamp` on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """Attributes of an entity that rarely change: one row per key and value.

    The first row stands 1 µs before the key's first impression, in both timestamps: attributes are
    known from signup or from the catalogue, so even the first impression may use them. A changed
    attribute gives one more row at the impression that first carried it, so an old impression never
    sees a new value.

    Attributes:
        key: column of the entity's id.
        columns: event columns that are attributes of the key.
    """

    key: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Rate:
    """A smoothed share of positives: ``(positives + weight · prior) / (impressions + weight)``.

    Attributes:
        feedback: label column.
        prior: rate of a key without impressions; a constant, because one computed from the data
            would tell early rows about later labels.
        weight: impressions that the prior counts for.
    """

    feedback: str
    prior: float
    weight: float = 10.0


@dataclass(frozen=True)
class History:
    """The newest values of a column, most recent first.

    Impressions of one timestamp are ordered by `column`, so that the largest value comes first.

    Attributes:
        column: event column to list, such as the item id.
        name: feature with the values.
        feedback: label column listed in parallel, or None.
        feedback_name: feature with the parallel labels.
        length: most values kept.
    """

    column: str
    name: str
    feedback: str | None = None
    feedback_name: str | None = None
    length: int = 50


@dataclass(frozen=True)
class Activity:
    """What a key has done so far: one row per key and timestamp, the state after all its impressions then.

    It gives ``<prefix>_impressions`` (int64, since the window's start), ``<prefix>_<feedback>_rate``
    (float32), ``<prefix>_gap_seconds`` (float64, between its last two timestamps, null before the
    second) and the history. `created_timestamp` is the latest one among the impressions counted, so a
    row that arrived late is invisible, with everything built on it, until it had arrived.

    Attributes:
        key: column of the entity's id.
        prefix: first part of the feature names.
        rates: smoothed rate per feedback.
        history: values to list, or None.
    """

    key: str
    prefix: str
    rates: tuple[Rate, ...]
    history: History | None = None


Recipe = Profile | Activity
