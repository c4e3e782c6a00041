"""Where does the error memory of a registered version lie? A tag on the version, set after the memory exists.

The tag is written when the artifact has been published, so a crash in between leaves a memory nobody
points at, never a pointer to nothing; the next refresh sets it. A reader still checks that the memory
is there, unharmed and of this champion, and serves the base model when it is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from features.declaration import Frozen
from features.ground.errors import RankmillError
from registry.memory.bandit import Bandit, open_bandit
from registry.memory.error_memory import Memory, open_memory
from registry.versions.client import Registry

TAG = "rankmill.error_memory"
"""Tag of a model version; its value is a `MemoryPointer`."""
BANDIT = "rankmill.bandit"
"""The same of its bandit."""
log = logging.getLogger("rankmill")


class MemoryPointer(Frozen):
    """Where a version's memory lies."""

    uri: str
    """URI of the `ErrorMemory` artifact."""
    digest: str
    """Its digest."""
    covers_until: AwareDatetime
    """Just after the latest row it has seen."""


def pointer_in(tags: Mapping[str, str], tag: str = TAG) -> MemoryPointer | None:
    """Return the pointer among a version's tags, or None when there is none that can be read."""
    try:
        return MemoryPointer.model_validate_json(tags[tag]) if tags.get(tag) else None
    except ValidationError:
        return None


def read_pointer(registry: Registry, model: str, version: int, tag: str = TAG) -> MemoryPointer | None:
    """Return the pointer of a version, or None; one that cannot be read is ignored with a warning."""
    tags = next((found.tags for found in registry.versions(model) if found.version.version == version), {})
    pointer = pointer_in(tags, tag)
    if pointer is None and tag in tags:
        maker = "refresh_error_memory" if tag == TAG else "refresh_bandit"
        log.warning("tag %s of %s v%d cannot be read and is ignored: run %s", tag, model, version, maker)
    return pointer


def memory_of(registry: Registry, model: str, version: int, fetch: Callable[[MemoryPointer], Path]) -> Memory | None:
    """Return the error memory of a version, or None when there is none that may be used.

    A memory that is gone, damaged or of another champion is ignored with a warning: the base model's
    answer is always right to give.
    """
    pointer = read_pointer(registry, model, version)
    if pointer is None:
        return None
    try:
        return open_memory(fetch(pointer), registry.version(model, version).ranker_digest)
    except RankmillError as error:
        log.warning("error memory of %s v%d is ignored: %s", model, version, error)
        return None


def bandit_of(registry: Registry, model: str, version: int, fetch: Callable[[MemoryPointer], Path]) -> Bandit | None:
    """Return the bandit of a version, or None, as `memory_of` does: a score without a bonus is always right to give."""
    pointer = read_pointer(registry, model, version, BANDIT)
    if pointer is None:
        return None
    try:
        return open_bandit(fetch(pointer), registry.version(model, version).ranker_digest)
    except RankmillError as error:
        log.warning("bandit of %s v%d is ignored: %s", model, version, error)
        return None
