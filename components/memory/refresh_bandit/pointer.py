"""Who tells a registered version that it has a bandit, and opens the one it has? The artifact store's side."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from components.platform.artifacts import Bandit
from components.platform.errors import RankmillError
from components.platform.settings import Settings
from components.platform.store.publish import open_store

if TYPE_CHECKING:
    from components.memory.refresh_bandit.config import Config, Outputs
    from registry.memory.bandit import Bandit as State
    from registry.versions.memory_pointer import MemoryPointer

log = logging.getLogger("rankmill")


def announce(outputs: Outputs, config: Config, settings: Settings) -> None:
    """Tag the version that a published bandit belongs to; one that reaches less far displaces none."""
    from registry.memory.bandit import read_header
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import BANDIT, MemoryPointer, read_pointer

    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    header = read_header(open_store(settings).fetch(outputs.bandit))
    held = read_pointer(registry, header.model, header.version, BANDIT)
    if held is not None and held.covers_until > header.covers.end and _exists(settings, held):
        log.info("%s v%d keeps its newer bandit at %s", header.model, header.version, held.uri)
        return
    pointer = MemoryPointer(uri=outputs.bandit.uri, digest=outputs.bandit.digest, covers_until=header.covers.end)
    registry.tag(header.model, header.version, BANDIT, pointer.model_dump_json())


def find_bandit(settings: Settings, model: str, version: int) -> State | None:
    """Return the bandit of a version out of the store, or None where there is none that may be used."""
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import bandit_of

    registry, store = Registry(settings.tracking_uri, settings.mlflow_artifacts), open_store(settings)
    return bandit_of(registry, model, version, lambda pointer: store.fetch(_artifact(pointer)))


def _exists(settings: Settings, pointer: MemoryPointer) -> bool:
    try:
        open_store(settings).manifest(_artifact(pointer))
    except RankmillError:
        return False
    return True


def _artifact(pointer: MemoryPointer) -> Bandit:
    return Bandit(uri=pointer.uri, digest=pointer.digest)
