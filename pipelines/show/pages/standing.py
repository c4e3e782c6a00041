"""How do the versions of a model stand, and what has happened to it? Registry and ledger as lines of a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from components.platform.errors import MissingError, RankmillError
from components.platform.settings import Settings

if TYPE_CHECKING:
    from registry.champion.ledger import Entry
    from registry.versions.client import ListedVersion

_BY = "pipeline:"
"""In front of the name of a pipeline that acts."""
NEWEST = 3
"""Versions without an alias that a summary shows."""


@dataclass(frozen=True)
class VersionLine:
    """A registered version."""

    version: int
    digest: str
    aliases: tuple[str, ...]
    created_at: datetime
    figures: tuple[tuple[str, str], ...]
    """Test AUC by task."""
    verdict: str
    """What the gate answered; empty before it was asked."""
    why: str
    """The ledger's last word about it, but for that nothing changed."""
    held: str
    """Why no run promotes it, empty where one may."""
    pipeline: str
    """Pipeline that made it, empty where it does not say."""
    run_id: str


@dataclass(frozen=True)
class HistoryLine:
    """An entry of the ledger."""

    sequence: int
    at: datetime
    what: str
    version: int
    before: int | None
    actor: str
    reason: str
    pipeline: str
    """Pipeline that did it, empty by hand."""
    run_id: str


@dataclass(frozen=True)
class ModelStanding:
    """A model."""

    name: str
    champion: int | None
    since: datetime | None
    """Since when, as the ledger tells; None where it does not."""
    versions: tuple[VersionLine, ...]
    """Newest first."""
    history: tuple[HistoryLine, ...]
    """Newest first; an announcement only while nothing settles it."""
    trouble: str = ""
    """What could not be read, in a sentence."""
    hold: str = ""
    """Who keeps pipelines from moving the champion, since when and why; empty where nobody does."""
    waiting: tuple[HistoryLine, ...] = ()
    """Questions to people that nobody has answered."""

    @property
    def short(self) -> tuple[VersionLine, ...]:
        """Versions behind an alias, and the newest others."""
        other = [line.version for line in self.versions if not line.aliases][:NEWEST]
        return tuple(line for line in self.versions if line.aliases or line.version in other)


def standings(settings: Settings, may_read: Callable[[str], bool]) -> tuple[ModelStanding, ...]:
    """Return the models that Rankmill registered, by name.

    Args:
        settings: where registry and ledger are.
        may_read: whether the reader may know of a pipeline; a model is shown to who may know of one that made it.

    Raises:
        RankmillError: the registry cannot be read.
    """
    from registry.versions.client import Registry

    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    try:
        names = registry.models()
    except MissingError:  # nothing was ever registered
        return ()
    found = []
    for name in names:
        ours = [one for one in registry.versions(name) if one.version.digest]
        if ours and any(may_read(one.tags.get("rankmill.pipeline", "")) for one in ours):
            found.append(_standing(settings, name, ours))
    return tuple(found)


def _standing(settings: Settings, name: str, listed: list[ListedVersion]) -> ModelStanding:
    from registry.champion.consent import hold, hold_said, open_questions
    from registry.champion.ledger import Ledger, taken_back
    from registry.versions.client import CHAMPION

    entries: tuple[Entry, ...] = ()
    trouble = ""
    try:
        entries = Ledger(settings.ledger).entries(name)
    except RankmillError as error:
        trouble = str(error)
    back = {digest: entry.held for digest, entry in taken_back(entries).items()}
    held = hold(entries, datetime.now(UTC))
    champion = next((one for one in listed if CHAMPION in one.aliases), None)
    return ModelStanding(
        name=name,
        champion=champion.version.version if champion else None,
        since=_since(entries, champion.version.digest) if champion else None,
        versions=tuple(_version(one, entries, back) for one in reversed(listed)),
        history=tuple(_lines(entries)),
        trouble=trouble,
        hold=hold_said(held) if held else "",
        waiting=tuple(_line(entry, entries) for entry in open_questions(entries)),
    )


def _since(entries: tuple[Entry, ...], digest: str) -> datetime | None:
    from registry.champion.ledger import champion

    entry = champion(entries)
    return (entry.effective_at or entry.at) if entry and entry.digest == digest else None


def _version(one: ListedVersion, entries: tuple[Entry, ...], back: dict[str, str]) -> VersionLine:
    tags, version = one.tags, one.version
    about = [one for one in entries if one.digest == version.digest and one.reason and one.action != "unchanged"]
    prefix, suffix = "rankmill.test.", ".auc"
    return VersionLine(
        version=version.version,
        digest=version.digest,
        aliases=one.aliases,
        created_at=version.created_at,
        figures=tuple(
            (name.removeprefix(prefix).removesuffix(suffix), value)
            for name, value in sorted(tags.items())
            if name.startswith(prefix) and name.endswith(suffix)
        ),
        verdict=tags.get("rankmill.verdict", ""),
        why=about[-1].reason if about else "",
        held=back.get(version.digest, ""),
        pipeline=tags.get("rankmill.pipeline", ""),
        run_id=tags.get("rankmill.run_id", ""),
    )


def _lines(entries: tuple[Entry, ...]) -> list[HistoryLine]:
    from registry.champion.ledger import INTENTS, pending

    left = pending(entries)
    return [
        _line(entry, entries, " (not settled)" if entry is left else "")
        for entry in reversed(entries)
        if entry.action not in INTENTS or entry is left
    ]


def _line(entry: Entry, entries: tuple[Entry, ...], remark: str = "") -> HistoryLine:
    # Who answers a question is a person; the run is that of the pipeline which asked.
    asked = next((one for one in entries if one.sequence == entry.settles), entry)
    pipelines = [one.actor.removeprefix(_BY) for one in (entry, asked) if one.actor.startswith(_BY)]
    return HistoryLine(
        sequence=entry.sequence,
        at=entry.effective_at or entry.at,
        what=f"{entry.action}{remark}",
        version=entry.version,
        before=entry.previous,
        actor=entry.actor,
        reason=entry.reason,
        pipeline=pipelines[0] if pipelines else "",
        run_id=entry.run_id,
    )
