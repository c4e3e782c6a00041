"""Which configs does an entry stand for? Common keys, the entry's own, a candidate's changes, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.platform.catalog import catalog
from components.platform.contract import ComponentSpec
from pipelines.compare.spec import BASELINES, CandidateSpec, ComparisonSpec, EntrySpec
from pipelines.language.problems import KeyPath

TRAIN = "train_ranker"


@dataclass(frozen=True)
class Candidate:
    """One config that an entry may run with.

    Attributes:
        change: what it changes in its entry; empty for the entry itself.
        config: the component's config without its seed.
        origin: where in the file each top-level key of the config, and each key of `ranker`, was written.
        where: place of the candidate in the file.
    """

    change: dict[str, Any]
    config: dict[str, Any]
    origin: dict[KeyPath, KeyPath]
    where: KeyPath

    def place(self, inner: KeyPath) -> KeyPath:
        """Return where in the file the value at `inner` of the config stands."""
        for end in (2, 1):
            if len(inner) >= end and inner[:end] in self.origin:
                return (*self.origin[inner[:end]], *inner[end:])
        return self.where


def component_of(entry: EntrySpec) -> ComponentSpec:
    """Return what runs an entry: it trains a ranker, or fits and judges a baseline."""
    return catalog()[BASELINES[entry.baseline] if entry.baseline else TRAIN]


def candidates(spec: ComparisonSpec, name: str) -> tuple[Candidate, ...]:
    """Return the configs of an entry: one per line of its grid, or its own when it has no grid."""
    entry = spec.entries[name]
    here: KeyPath = ("entries", name)
    if not entry.grid:
        return (_candidate(spec, entry, CandidateSpec(), here, here),)
    return tuple(_candidate(spec, entry, tried, here, (*here, "grid", at)) for at, tried in enumerate(entry.grid))


def _candidate(
    spec: ComparisonSpec, entry: EntrySpec, tried: CandidateSpec, here: KeyPath, where: KeyPath
) -> Candidate:
    config: dict[str, Any] = {}
    origin: dict[KeyPath, KeyPath] = {}
    # What rankers share is written for `train_ranker`; a baseline has keys of its own.
    layers = [] if entry.baseline else [(spec.with_, ("with",))]
    for keys, place in [*layers, (entry.with_, (*here, "with")), (tried.with_, (*where, "with"))]:
        config |= keys
        origin |= {(key,): (*place, key) for key in keys}
    if entry.ranker is not None:
        config["ranker"] = entry.ranker | tried.ranker
        origin |= {("ranker",): (*here, "ranker")}
        origin |= {("ranker", key): (*here, "ranker", key) for key in entry.ranker}
        origin |= {("ranker", key): (*where, "ranker", key) for key in tried.ranker}
    change = dict(tried.with_) | ({"ranker": dict(tried.ranker)} if tried.ranker else {})
    return Candidate(change=change, config=config, origin=origin, where=where)
