"""Does a cached events table still stand for the user's files? Only if their bytes are the ones that were read."""

from __future__ import annotations

from components.errors import MissingError
from components.ingest_kuairand.config import Config, Outputs
from components.ingest_kuairand.files import find, needed
from components.settings import Settings
from components.store import open_store
from features.files import sha256_file

ANNOTATION = "raw."
"""Prefix of the annotations that hold the sha256 of each raw file."""


def raw_files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which raw file differs from the one that was read, or None."""
    read = open_store(settings).manifest(outputs.events).annotations
    for name in needed(config.logs):
        try:
            path = find(settings.data, name)
        except MissingError:
            return f"{name} is gone"
        if read.get(ANNOTATION + name) != sha256_file(path):
            return f"{path} has changed"
    return None
