"""Does a cached events table still stand for your files? Only if they are the same ones with the same content."""

from __future__ import annotations

from components.ingest.events_table import ANNOTATION
from components.ingest.ingest_table.config import Config, Outputs
from components.ingest.ingest_table.files import sources
from components.platform.errors import MissingError
from components.platform.settings import Settings
from components.platform.store.publish import open_store


def files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which file differs from what was read, is new or is gone, or None."""
    annotations = open_store(settings).manifest(outputs.events).annotations
    read = {name.removeprefix(ANNOTATION): mark for name, mark in annotations.items() if name.startswith(ANNOTATION)}
    try:
        now = {source.name: source for found in sources(config, settings.data).values() for source in found}
    except MissingError as error:
        return str(error)
    for name in sorted({*read, *now}):
        if name not in now:
            return f"{name} is gone"
        if name not in read:
            return f"{now[name].shown} is new"
        if read[name] != now[name].mark():
            return f"{now[name].shown} has changed"
    return None
