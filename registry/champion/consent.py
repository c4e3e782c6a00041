"""What have people said about a model that no gate knows? Questions, answers and holds among a ledger's entries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from registry.champion.ledger import MOVES, Entry


def hold(entries: Sequence[Entry], now: datetime) -> Entry | None:
    """Return the entry that holds the model now, or None: no pipeline moves the champion of a model that is held."""
    last = next((entry for entry in reversed(entries) if entry.action in ("held", "released")), None)
    if last is None or last.action == "released" or (last.until is not None and now >= last.until):
        return None
    return last


def hold_said(entry: Entry) -> str:
    """Return what is said about a model that an entry holds: by whom, since when, until when, why."""
    until = f" until {moment_said(entry.until)}" if entry.until else ""
    return f"held by {entry.actor} since {moment_said(entry.at)}{until} ({entry.reason})"


def moment_said(moment: datetime) -> str:
    """Return a moment for a reader, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def open_questions(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the questions that nobody has answered, oldest first.

    One that was asked about another champion than the present one counts no more, nor does an earlier one of the
    same version in the same place.
    """
    answered = {entry.settles for entry in entries}
    found: dict[tuple[str, str, str], Entry] = {}
    for place, entry in enumerate(entries):
        if entry.action in MOVES:
            found.clear()  # whoever was asked was asked about another champion
        if entry.action == "asked" and entry.asked and entry.sequence not in answered:
            key = (entry.digest, entry.asked.through, entry.run_id if entry.asked.through == "airflow" else "")
            found.pop(key, None)
            found[key] = entries[place]
    return tuple(found.values())


def unused_approval(entries: Sequence[Entry], digest: str, champion: str) -> Entry | None:
    """Return the approval of a content that no move has used yet, as after a crash between the two; else None.

    Args:
        entries: of a model, oldest first.
        digest: the content.
        champion: that of the present champion, empty without one: an answer may come after the champion that it was
            about.
    """
    for entry in reversed(entries):
        if entry.action in MOVES:
            return None
        if entry.action in ("approved", "declined") and entry.digest == digest:
            return entry if entry.action == "approved" and entry.previous_digest == champion else None
    return None
