"""Does a cached events table still stand for the raw files? Only unverified files can have changed."""

from __future__ import annotations

from components.ingest.download import changed_since
from components.ingest.ingest_open_bandit.config import Config, Outputs
from components.ingest.ingest_open_bandit.release import needed
from components.ingest.wheels import SHIPPED
from components.platform.settings import Settings


def raw_files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which raw file differs from the one that was read, or None."""
    names = needed(config.policy, config.campaigns)
    return changed_since(outputs.events, SHIPPED["open-bandit"], settings, verify=config.verify, names=names)
