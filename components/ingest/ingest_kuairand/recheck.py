"""Does a cached events table still stand for the user's files? Only if their bytes are the ones that were read."""

from __future__ import annotations

from pathlib import Path

from components.ingest.events_table import changed_file
from components.ingest.ingest_kuairand.config import Config, Outputs
from components.ingest.ingest_kuairand.files import find, needed
from components.platform.errors import MissingError
from components.platform.settings import Settings


def raw_files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which raw file differs from the one that was read, or None."""
    files = {name: _found(settings.data, name) for name in needed(config.logs)}
    return changed_file(outputs.events, files, settings)


def _found(data: Path, name: str) -> Path | None:
    try:
        return find(data, name)
    except MissingError:
        return None
