"""Does a cached events table still stand for the raw files? Only unverified files can have changed."""

from __future__ import annotations

from components.events_table import changed_file
from components.ingest_open_bandit.config import Config, Outputs
from components.ingest_open_bandit.release import RELEASE, needed
from components.settings import Settings


def raw_files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which raw file differs from the one that was read, or None.

    The bytes of a verified release are part of the component's source and need no look.
    """
    if config.verify:
        return None
    folder = settings.data / RELEASE.name
    names = needed(config.policy, config.campaigns)
    return changed_file(outputs.events, {name: folder / name for name in names}, settings)
