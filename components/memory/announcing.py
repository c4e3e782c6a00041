"""Who tells a registered version that something was learned beside it? One that reaches less far displaces none."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from components.platform.artifacts import Artifact
from components.platform.errors import RankmillError
from components.platform.settings import Settings
from components.platform.store.publish import open_store

if TYPE_CHECKING:
    from registry.versions.memory_pointer import MemoryPointer

log = logging.getLogger("rankmill")


def tell_version(
    settings: Settings, made: Artifact, tag: str, what: str, *, model: str, version: int, covers_until: datetime
) -> None:
    """Tag a version with what was published for it, unless the tag names one that reaches further and is there.

    Args:
        settings: where registry and store are.
        made: what was published.
        tag: of the version, by which it is found.
        what: its name in the log.
        model: the registered model.
        version: the version that it belongs to, whether or not that is champion still.
        covers_until: end of the window that it covers.
    """
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import MemoryPointer, read_pointer

    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    held = read_pointer(registry, model, version, tag)
    if held is not None and held.covers_until > covers_until and _exists(settings, type(made), held):
        log.info("%s v%d keeps its newer %s at %s", model, version, what, held.uri)
        return
    pointer = MemoryPointer(uri=made.uri, digest=made.digest, covers_until=covers_until)
    registry.tag(model, version, tag, pointer.model_dump_json())


def _exists(settings: Settings, kind: type[Artifact], pointer: MemoryPointer) -> bool:
    try:
        open_store(settings).manifest(kind(uri=pointer.uri, digest=pointer.digest))
    except RankmillError:
        return False
    return True
