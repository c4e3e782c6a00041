"""Does a cached events table still stand for the raw files? Only unverified files can have changed."""

from __future__ import annotations

from components.events_table import changed_file
from components.ingest_household.config import Config, Outputs
from components.ingest_household.release import RELEASE
from components.settings import Settings


def raw_files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which raw file differs from the one that was read, or None.

    The bytes of a verified release are part of the component's source and need no look.
    """
    if config.verify:
        return None
    folder = settings.data / RELEASE.name
    return changed_file(outputs.events, {file.name: folder / file.name for file in RELEASE.files}, settings)
