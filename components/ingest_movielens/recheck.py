"""Does a cached events table still stand for the raw files? Only unverified files can have changed."""

from __future__ import annotations

from components.ingest_movielens.config import Config, Outputs
from components.ingest_movielens.releases import release
from components.settings import Settings
from components.store import open_store
from features.files import sha256_file

ANNOTATION = "raw."
"""Prefix of the annotations that hold the sha256 of each raw file."""


def raw_files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which raw file differs from the one that was read, or None.

    The bytes of a verified release are part of the component's source and need no look.
    """
    if config.verify:
        return None
    read = open_store(settings).manifest(outputs.events).annotations
    for file in release(config.release).files:
        path = settings.data / config.release / file.name
        now = sha256_file(path) if path.exists() else "absent"
        if read.get(ANNOTATION + file.name) != now:
            return f"{path} has changed"
    return None
