"""What goes into the cache key of a stage, which earlier result may it take, and how is a changed key explained?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.platform.contract import ComponentSpec
from components.platform.sources import digest_of, modules_of, source_digest
from components.platform.store.records import StageRecord, sha256_json
from features.declaration import Window

if TYPE_CHECKING:
    from components.platform.store.publish import Store

CacheMode = Literal["all", "inputs", "off"]
"""Which earlier result a stage may take: `all`: of the same component version, source, config, inputs and (where it
counts) window; `inputs`: the newest with the same ones but for the source, so that an edited source alone
does not run it; `off`: none."""
Start = Literal["cache", "anew", "taken"]
"""How a stage of a run comes to its result: `cache`: from the store where its cache mode finds it there, else by
running; `anew`: by running, whatever the store has; `taken`: from the store only, as it was last made."""
Kind = Literal["component", "source", "config", "input", "window"]
KINDS: tuple[Kind, ...] = ("component", "source", "config", "input", "window")
"""What can differ between two runs, in the order in which it is told."""
MOST_CLAUSES = 3
LONGEST_VALUE = 60
RUN = "run"
"""Part that makes the key of a run unique that took nothing from the store."""
SOURCE = "source"


@dataclass(frozen=True)
class Change:
    """One difference between two runs of a component."""

    kind: Kind
    name: str
    """File, config key or input; empty for the component and the window."""
    old: str | None
    """Its value or digest before; None when it was not there."""
    new: str | None
    """Now; None when it is gone."""

    def __str__(self) -> str:
        """Return one clause."""
        if self.kind == "source" and self.name:
            what = "is new" if self.old is None else "is gone" if self.new is None else "changed"
            return f"code {self.name} {what}"
        label = f"{self.kind} {self.name}".strip()
        return f"{label}: {_cut(self.old)} → {_cut(self.new)}"


def key_parts(
    spec: ComponentSpec,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    window: Window | None,
    sources: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the named parts of a stage's cache key.

    Sources that are None are read from disk.

    Returns:
        ``component``, ``source``, ``config.<key>`` per keyed config key, ``input.<name>`` per input, and
        ``window`` where it counts; each a short readable value or digest.
    """
    parts = {
        "component": spec.identity,
        SOURCE: (source_digest(*modules_of(spec)) if sources is None else digest_of(sources))[:16],
    }
    keyed = {name: value for name, value in sorted(config.items()) if name not in spec.unkeyed}
    parts |= {f"config.{name}": sha256_json(value)[:16] for name, value in keyed.items()}
    parts |= {f"input.{name}": digest for name, digest in sorted(inputs.items())}
    if spec.windowed and window is not None:
        parts["window"] = str(window)
    return parts


def cache_key(parts: Mapping[str, str]) -> str:
    """Return the key: 32 hex digits over the named parts."""
    return sha256_json(dict(parts))[:32]


def looks_back(spec: ComponentSpec, mode: CacheMode, start: Start) -> bool:
    """Return whether a stage may take an earlier result at all."""
    return start == "taken" or (start == "cache" and spec.cacheable and mode != "off")


def earlier_result(
    store: Store, spec: ComponentSpec, parts: Mapping[str, str], mode: CacheMode, start: Start
) -> StageRecord | None:
    """Return the newest earlier result that a stage may take, whole, or None.

    Args:
        store: the artifact store.
        spec: the component.
        parts: named parts of the stage's key, without `RUN`.
        mode: the stage's cache mode.
        start: `cache`, or `taken`: then a result counts too that never took anything from the store itself.
    """
    if not looks_back(spec, mode, start):
        return None
    exact = store.find(spec.name, cache_key(parts)) if spec.cacheable and mode != "off" else None
    if exact is not None and exact.freed:
        exact = None
    if exact is not None or (mode == "all" and spec.cacheable):
        return exact
    ignored = (SOURCE,) if mode == "inputs" else ()
    wanted = without(parts, *ignored)
    for record in store.records(spec.name):
        made = without(record.explanation, *ignored)
        if start == "taken":
            made.pop(RUN, None)
        if made == wanted and not record.freed:
            return record
    return None


def nearest_run(parts: Mapping[str, str], records: Sequence[StageRecord], made_by: str) -> StageRecord | None:
    """Return the run of the same pipeline that differs least; of equals one of the same stage, of those the first.

    Args:
        parts: named parts of the key now.
        records: earlier results of the component, newest first, of any pipeline: what another pipeline did says
            nothing about why this one runs.
        made_by: ``pipeline.stage`` that asks.
    """
    parts = without(parts, RUN)
    pipeline = made_by.partition(".")[0]

    def differences(record: StageRecord) -> tuple[int, bool]:
        old = without(record.explanation, RUN)
        return sum(old.get(name) != parts.get(name) for name in {*old, *parts}), record.made_by != made_by

    own = (record for record in records if record.made_by.partition(".")[0] == pipeline)
    return min(own, key=differences, default=None)


def without(parts: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return the parts of a key but for some."""
    return {name: value for name, value in parts.items() if name not in names}


def changes(
    old: StageRecord, parts: Mapping[str, str], config: Mapping[str, Any], sources: Mapping[str, str]
) -> tuple[Change, ...]:
    """Return how an earlier run of a component differs from what would run now."""
    before = without(old.explanation, RUN)
    found: list[Change] = []
    for name in (name for name in {*before, *parts} if before.get(name) != parts.get(name)):
        kind, _, key = name.partition(".")
        if kind == SOURCE and old.sources:
            found += _differences("source", old.sources, sources)
        elif kind == "config" and old.config:
            found += _differences("config", _leaves(key, old.config.get(key)), _leaves(key, config.get(key)))
        else:
            found += [Change(known, key, before.get(name), parts.get(name)) for known in KINDS if known == kind]
    return tuple(sorted(found, key=lambda change: (KINDS.index(change.kind), change.name)))


def told(found: Sequence[Change]) -> str:
    """Return one sentence's worth of changes: the first few, and how many more."""
    clauses = [str(change) for change in found[:MOST_CLAUSES]]
    more = f" and {len(found) - MOST_CLAUSES} more" if len(found) > MOST_CLAUSES else ""
    return ", ".join(clauses) + more if clauses else "nothing changed"


def _differences(kind: Literal["source", "config"], old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield Change(kind, name, old.get(name), new.get(name))


def _leaves(key: str, value: Any) -> dict[str, str]:
    """Return the values inside a config key by dotted path, as JSON; a whole list is one value."""
    if isinstance(value, Mapping) and value:
        return {path: text for name, inner in value.items() for path, text in _leaves(f"{key}.{name}", inner).items()}
    return {key: value if isinstance(value, str) else json.dumps(value)}


def _cut(value: str | None) -> str:
    if value is None:
        return "absent"
    if len(value) == 64 and not value.strip("0123456789abcdef"):
        return value[:12]
    return value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 1]}…"
