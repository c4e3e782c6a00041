"""Does a cached events table still stand for the raw files? Only unverified files can have changed."""

from __future__ import annotations

from components.ingest.download import paths_of
from components.ingest.events_table import ANNOTATION
from components.ingest.ingest_household.config import Config, Outputs
from components.ingest.wheels import SHIPPED
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.ground.files import sha256_file


def raw_files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which raw file differs from the one that was read, or None; verified bytes need no look."""
    if config.verify:
        return None
    read = open_store(settings).manifest(outputs.events).annotations
    for name, path in paths_of(SHIPPED["household-offers"], settings.data).items():
        if not path.exists():
            return f"{path} is gone"
        if read.get(ANNOTATION + name) != sha256_file(path):
            return f"{path} has changed"
    return None
