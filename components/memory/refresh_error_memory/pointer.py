"""How does a served champion find its error memory? A tag on its version, set after the memory exists.

The tag is written when the artifact has been published, so a crash in between leaves a memory nobody
points at, never a pointer to nothing; the next refresh sets it. A reader still checks that the memory
is there, unharmed and of this champion, and serves the base model when it is not.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, ValidationError

from components.platform.artifacts import ErrorMemory
from components.platform.errors import RankmillError
from components.platform.settings import Settings
from components.platform.store import open_store
from features.declaration import Frozen, Name

if TYPE_CHECKING:
    from components.memory.refresh_error_memory.config import Config, Outputs
    from registry.memory.error_memory import Memory
    from registry.versions.client import Registry

TAG = "rankmill.error_memory"
"""Tag of a model version; its value is a `MemoryPointer`."""
log = logging.getLogger("rankmill")


class MemoryPointer(Frozen):
    """Where a version's memory lies.

    Attributes:
        uri: URI of the `ErrorMemory` artifact.
        digest: its digest.
        covers_until: just after the latest row it has seen.
    """

    uri: str
    digest: str
    covers_until: AwareDatetime

    @property
    def artifact(self) -> ErrorMemory:
        """The artifact."""
        return ErrorMemory(uri=self.uri, digest=self.digest)


def announce(outputs: Outputs, config: Config, settings: Settings) -> None:
    """Tag the version that a published memory belongs to.

    A memory that reaches less far than the one the version points at, of an older window that was run
    again, does not displace it. What a version points at is decided by its tag, not by the alias: the
    champion may have changed since the memory was begun.
    """
    from registry.memory.error_memory import read_header

    header = read_header(open_store(settings).fetch(outputs.error_memory))
    held = read_pointer(settings, header.model, header.version)
    if held is not None and held.covers_until > header.covers.end and _exists(settings, held):
        log.info("%s v%d keeps its newer error memory at %s", header.model, header.version, held.uri)
        return
    pointer = MemoryPointer(
        uri=outputs.error_memory.uri, digest=outputs.error_memory.digest, covers_until=header.covers.end
    )
    _registry(settings).tag(header.model, header.version, TAG, pointer.model_dump_json())


def read_pointer(settings: Settings, model: Name, version: int) -> MemoryPointer | None:
    """Return the pointer of a version, or None when it has none that can be read."""
    tags = {found.version.version: found.tags for found in _registry(settings).versions(model)}
    value = tags.get(version, {}).get(TAG)
    if value is None:
        return None
    try:
        return MemoryPointer.model_validate_json(value)
    except ValidationError:
        log.warning("tag %s of %s v%d cannot be read and is ignored: run refresh_error_memory", TAG, model, version)
        return None


def find_memory(settings: Settings, model: Name, version: int) -> Memory | None:
    """Return the error memory of a version, or None when there is none that may be used.

    A memory that is gone, damaged or of another champion is ignored with a warning: the base model's
    answer is always right to give.
    """
    from registry.memory.error_memory import open_memory

    pointer = read_pointer(settings, model, version)
    if pointer is None:
        return None
    try:
        ranker_digest = _registry(settings).version(model, version).ranker_digest
        return open_memory(open_store(settings).fetch(pointer.artifact), ranker_digest)
    except RankmillError as error:
        log.warning("error memory of %s v%d is ignored: %s", model, version, error)
        return None


def _exists(settings: Settings, pointer: MemoryPointer) -> bool:
    try:
        open_store(settings).manifest(pointer.artifact)
    except RankmillError:
        return False
    return True


def _registry(settings: Settings) -> Registry:
    from registry.versions.client import Registry

    return Registry(settings.tracking_uri, settings.mlflow_artifacts)
