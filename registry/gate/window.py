"""Is a challenger of an older window than the champion? A backfill of past days must not take the champion back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

WINDOW_END = "rankmill.window_end"
"""Tag of a version: end of the window of the run that registered it, ISO 8601 with a time zone."""


def window_end(tags: Mapping[str, str]) -> datetime | None:
    """Return the end of a version's window, or None where its tags do not tell."""
    try:
        end = datetime.fromisoformat(tags.get(WINDOW_END, ""))
    except ValueError:
        return None
    return end if end.tzinfo is not None else None


def older(challenger: datetime | None, champion: datetime | None) -> str | None:
    """Return why a challenger is not promoted when its window ends before the champion's, else None.

    Windows that end at the same moment are judged by the gate, and so is a version whose window nobody knows.
    """
    if challenger is None or champion is None or challenger >= champion:
        return None
    return (
        f"older than the champion's window, which ends {_said(champion)} (this one {_said(challenger)}): not promoted"
    )


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}".removesuffix("T00:00Z")
