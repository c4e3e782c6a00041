"""Who tells a registered version that it has an error memory, and opens the one it has? The artifact store's side."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from components.platform.artifacts import ErrorMemory
from components.platform.errors import RankmillError
from components.platform.settings import Settings
from components.platform.store.publish import open_store

if TYPE_CHECKING:
    from components.memory.refresh_error_memory.config import Config, Outputs
    from registry.memory.error_memory import Memory
    from registry.versions.memory_pointer import MemoryPointer

log = logging.getLogger("rankmill")


def announce(outputs: Outputs, config: Config, settings: Settings) -> None:
    """Tag the version that a published memory belongs to.

    A memory that reaches less far than the one the version points at, of an older window that was run
    again, does not displace it. What a version points at is decided by its tag, not by the alias: the
    champion may have changed since the memory was begun.
    """
    from registry.memory.error_memory import read_header
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import TAG, MemoryPointer, read_pointer

    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    header = read_header(open_store(settings).fetch(outputs.error_memory))
    held = read_pointer(registry, header.model, header.version)
    if held is not None and held.covers_until > header.covers.end and _exists(settings, held):
        log.info("%s v%d keeps its newer error memory at %s", header.model, header.version, held.uri)
        return
    pointer = MemoryPointer(
        uri=outputs.error_memory.uri, digest=outputs.error_memory.digest, covers_until=header.covers.end
    )
    registry.tag(header.model, header.version, TAG, pointer.model_dump_json())


def find_memory(settings: Settings, model: str, version: int) -> Memory | None:
    """Return the error memory of a version out of the store, see `registry.versions.memory_pointer.memory_of`."""
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import memory_of

    registry, store = Registry(settings.tracking_uri, settings.mlflow_artifacts), open_store(settings)
    return memory_of(registry, model, version, lambda pointer: store.fetch(_artifact(pointer)))


def _exists(settings: Settings, pointer: MemoryPointer) -> bool:
    try:
        open_store(settings).manifest(_artifact(pointer))
    except RankmillError:
        return False
    return True


def _artifact(pointer: MemoryPointer) -> ErrorMemory:
    return ErrorMemory(uri=pointer.uri, digest=pointer.digest)
