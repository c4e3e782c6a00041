"""Which stages in the store does nothing refer to any more, and how are they deleted?

A stage goes whole, or what nobody needs of it goes: that a version's ranker stays is no reason to keep the rows which
the same stage made.
"""

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
    """A stage that may go, or a part of it."""

    place: Place
    kinds: tuple[str, ...]
    """What it made, or what of it may go; empty when it was never completed."""
    used: datetime | None
    """When it was made or last taken from the store."""
    bytes: int
    """What its going frees: what stays elsewhere, or goes with one before, is not counted."""
    outputs: tuple[str, ...] = ()
    """Names of the outputs that may go alone; empty where the whole stage may."""
    leading: tuple[Place, ...] = ()
    """Other places that lead to it."""


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
    """Return the stages, and parts of stages, that nothing refers to and no run made or took since an aware moment."""
    kept, parts = _kept(stages, keep, since)
    due: list[tuple[Stored, tuple[str, ...] | None]] = []
    for stage in stages:
        if stage.place not in kept and stage.used is not None:
            due.append((stage, None))
        elif outputs := parts.get(stage.place):
            due.append((stage, outputs))
    if not due:
        return ()
    going = {stage.place: outputs for stage, outputs in due}
    seen: set[str] = set()
    for stage in stages:
        outputs = going.get(stage.place, ())
        if stage.place not in going:
            seen |= {*store.held(*stage.place).contents}
        elif outputs is not None and stage.record is not None:
            seen |= {*store.held(*stage.place, {*stage.record.outputs} - {*outputs}).contents}
    found = []
    for stage, outputs in due:
        held = store.held(*stage.place, outputs)
        freed = held.own + sum(size for sha256, size in held.contents.items() if sha256 not in seen)
        seen |= {*held.contents}
        made = stage.record.outputs if stage.record else {}
        kinds = tuple(sorted(ref.kind for name, ref in made.items() if outputs is None or name in outputs))
        leading = tuple(one.place for one in stages if one.target == stage.place != one.place) if outputs else ()
        found.append(Unused(stage.place, kinds, stage.used, freed, outputs or (), leading))
    return tuple(found)


def remove(store: Store, stage: Unused, since: datetime) -> bool:
    """Delete an unused stage, or the part of it, unless a run has made or used it since; return whether it went."""
    if stage.outputs:
        return store.free_outputs((stage.place, *stage.leading), stage.outputs, since)
    return store.remove_unused(*stage.place, since=since)


def stale_copies(folder: Path, since: datetime) -> tuple[Path, ...]:
    """Return the local copies of a remote store's artifacts that nobody has read since a moment."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if path.stat().st_mtime < since.timestamp()))


def _kept(
    stages: Sequence[Stored], keep: References, since: datetime
) -> tuple[set[Place], dict[Place, tuple[str, ...]]]:
    """Return the places that stay, and by place the names of the outputs that need not stay with the rest."""
    makers: dict[str, list[Stored]] = {}
    for stage in stages:
        for ref in stage.record.outputs.values() if stage.record else ():
            makers.setdefault(ref.digest, []).append(stage)
    whole = {stage.place for stage in stages if stage.used is not None and stage.used >= since}
    whole |= {stage.place for digest in _lineage(makers, keep.roots) for stage in makers.get(digest, ())}
    whole = _with_leading(stages, whole | {_place(uri) for uri in keep.uris})
    named = {stage.place for digest in keep.digests for stage in makers.get(digest, ())}
    kept = _with_leading(stages, whole | named)
    parts = {}
    for stage in stages:
        if stage.record is None or stage.place != stage.target or stage.place not in kept - whole:
            continue
        outputs = stage.record.outputs.items()
        spare = tuple(n for n, ref in outputs if ref.digest not in keep.digests and n not in stage.record.freed)
        if spare:
            parts[stage.place] = spare
    return kept, parts


def _with_leading(stages: Sequence[Stored], kept: Set[Place]) -> set[Place]:
    """Return places with those that they lead to and those that lead there.

    A key whose result was made anew elsewhere stays as long as that result does, and the other way round.
    """
    targets = {stage.target for stage in stages if stage.place in kept}
    return {*kept} | targets | {stage.place for stage in stages if stage.target in kept | targets}


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
