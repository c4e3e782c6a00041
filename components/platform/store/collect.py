"""Which stages in the store does nothing refer to any more, and how are they deleted?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from components.platform.store.publish import Store
from components.platform.store.records import StageRecord

Place = tuple[str, str]
"""Component and key: where a stage lies in the store."""


@dataclass(frozen=True)
class Stored:
    """One stage in the store."""

    place: Place
    record: StageRecord | None
    """What it made; None when it was never completed."""
    used: datetime | None
    """When it was made, or last taken from the store; None where the store cannot tell."""

    @property
    def target(self) -> Place:
        """Where its outputs lie: elsewhere when a newer stage took over its key."""
        return (self.record.component, self.record.key) if self.record else self.place


@dataclass(frozen=True)
class References:
    """What must stay."""

    uris: frozenset[str]
    """Artifacts that runs or the registry name."""
    digests: frozenset[str]
    """Contents that the registry names."""
    roots: frozenset[str]
    """Contents that stay with everything they were made from."""


@dataclass(frozen=True)
class Unused:
    """A stage that may go."""

    place: Place
    kinds: tuple[str, ...]
    """What it made; empty when it was never completed."""
    used: datetime | None
    """When it was made or last taken from the store."""
    bytes: int


def inventory(store: Store) -> tuple[Stored, ...]:
    """Return every stage in the store."""
    found = []
    for component in store.components():
        for key in store.keys(component):
            record = store.find(component, key)
            times = [store.last_used(component, key), record.created_at if record else store.changed(component, key)]
            found.append(Stored((component, key), record, max((t for t in times if t), default=None)))
    return tuple(found)


def unused(store: Store, stages: Sequence[Stored], keep: References, since: datetime) -> tuple[Unused, ...]:
    """Return the stages that nothing refers to and that no run has made or taken since an aware moment."""
    kept = _kept(stages, keep, since)
    return tuple(
        Unused(
            stage.place,
            tuple(sorted(ref.kind for ref in stage.record.outputs.values())) if stage.record else (),
            stage.used,
            store.size(*stage.place),
        )
        for stage in stages
        if stage.used is not None and stage.place not in kept
    )


def stale_copies(folder: Path, since: datetime) -> tuple[Path, ...]:
    """Return the local copies of a remote store's artifacts that nobody has read since a moment."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if path.stat().st_mtime < since.timestamp()))


def _kept(stages: Sequence[Stored], keep: References, since: datetime) -> set[Place]:
    makers: dict[str, list[Stored]] = {}
    for stage in stages:
        for ref in stage.record.outputs.values() if stage.record else ():
            makers.setdefault(ref.digest, []).append(stage)
    digests = keep.digests | _lineage(makers, keep.roots)
    named = {_place(uri) for uri in keep.uris}
    kept = {stage.place for stage in stages if stage.used is not None and stage.used >= since}
    kept |= {stage.place for digest in digests for stage in makers.get(digest, ())}
    kept |= named
    targets = {stage.target for stage in stages if stage.place in kept}
    # A key whose result was made anew elsewhere stays as long as that result does, and the other way round.
    return kept | targets | {stage.place for stage in stages if stage.target in kept | targets}


def _lineage(makers: Mapping[str, Sequence[Stored]], roots: Set[str]) -> set[str]:
    """Return the digests of `roots` and of everything they were made from."""
    found: set[str] = set()
    due = [*roots]
    while due:
        digest = due.pop()
        if digest in found:
            continue
        found.add(digest)
        for stage in makers.get(digest, ()):
            due += _inputs(stage.record)
    return found


def _inputs(record: StageRecord | None) -> Iterable[str]:
    parts = record.explanation if record else {}
    return [value for name, value in parts.items() if name.startswith("input.")]


def _place(uri: str) -> Place:
    """Return component and key of an artifact's URI, ``…/component/key/output``."""
    component, key, _ = PurePosixPath(uri).parts[-3:]
    return component, key
