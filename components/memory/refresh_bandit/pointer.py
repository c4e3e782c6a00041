"""Who tells a registered version that it has a bandit, and opens the one it has? The artifact store's side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.memory.announcing import tell_version
from components.platform.artifacts import Bandit
from components.platform.settings import Settings
from components.platform.store.publish import open_store

if TYPE_CHECKING:
    from components.memory.refresh_bandit.config import Config, Outputs
    from registry.memory.bandit import Bandit as State
    from registry.versions.memory_pointer import MemoryPointer


def announce(outputs: Outputs, config: Config, settings: Settings) -> None:
    """Tag the version that a published bandit belongs to; one that reaches less far displaces none."""
    from registry.memory.bandit import read_header
    from registry.versions.memory_pointer import BANDIT

    made = outputs.bandit
    header = read_header(open_store(settings).fetch(made))
    tell_version(
        settings, made, BANDIT, "bandit",
        model=header.model, version=header.version, covers_until=header.covers.end,
    )  # fmt: skip


def find_bandit(settings: Settings, model: str, version: int) -> State | None:
    """Return the bandit of a version out of the store, or None where there is none that may be used."""
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import bandit_of

    registry, store = Registry(settings.tracking_uri, settings.mlflow_artifacts), open_store(settings)
    return bandit_of(registry, model, version, lambda pointer: store.fetch(_artifact(pointer)))


def _artifact(pointer: MemoryPointer) -> Bandit:
    return Bandit(uri=pointer.uri, digest=pointer.digest)
