"""Who tells a registered version that it has an error memory, and opens the one it has? The artifact store's side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.memory.announcing import tell_version
from components.platform.artifacts import ErrorMemory
from components.platform.settings import Settings
from components.platform.store.publish import open_store

if TYPE_CHECKING:
    from components.memory.refresh_error_memory.config import Config, Outputs
    from registry.memory.error_memory import Memory
    from registry.versions.memory_pointer import MemoryPointer


def announce(outputs: Outputs, config: Config, settings: Settings) -> None:
    """Tag the version that a published memory belongs to.

    A memory that reaches less far than the one the version points at, of an older window that was run
    again, does not displace it. What a version points at is decided by its tag, not by the alias: the
    champion may have changed since the memory was begun.
    """
    from registry.memory.error_memory import read_header
    from registry.versions.memory_pointer import TAG

    made = outputs.error_memory
    header = read_header(open_store(settings).fetch(made))
    tell_version(
        settings, made, TAG, "error memory",
        model=header.model, version=header.version, covers_until=header.covers.end,
    )  # fmt: skip


def find_memory(settings: Settings, model: str, version: int) -> Memory | None:
    """Return the error memory of a version out of the store, see `registry.versions.memory_pointer.memory_of`."""
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import memory_of

    registry, store = Registry(settings.tracking_uri, settings.mlflow_artifacts), open_store(settings)
    return memory_of(registry, model, version, lambda pointer: store.fetch(_artifact(pointer)))


def _artifact(pointer: MemoryPointer) -> ErrorMemory:
    return ErrorMemory(uri=pointer.uri, digest=pointer.digest)
