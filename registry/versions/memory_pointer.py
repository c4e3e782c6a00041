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
from registry.memory.error_memory import Memory, open_memory
from registry.versions.client import Registry

TAG = "rankmill.error_memory"
"""Tag of a model version; its value is a `MemoryPointer`."""
log = logging.getLogger("rankmill")


class MemoryPointer(Frozen):
    """Where a version's memory lies."""

    uri: str
    """URI of the `ErrorMemory` artifact."""
    digest: str
    """Its digest."""
    covers_until: AwareDatetime
    """Just after the latest row it has seen."""


def pointer_in(tags: Mapping[str, str]) -> MemoryPointer | None:
    """Return the pointer among a version's tags, or None when there is none that can be read."""
    try:
        return MemoryPointer.model_validate_json(tags[TAG]) if tags.get(TAG) else None
    except ValidationError:
        return None


def read_pointer(registry: Registry, model: str, version: int) -> MemoryPointer | None:
    """Return the pointer of a version, or None; one that cannot be read is ignored with a warning."""
    tags = next((found.tags for found in registry.versions(model) if found.version.version == version), {})
    pointer = pointer_in(tags)
    if pointer is None and TAG in tags:
        log.warning("tag %s of %s v%d cannot be read and is ignored: run refresh_error_memory", TAG, model, version)
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
