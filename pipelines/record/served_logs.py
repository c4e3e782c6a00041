"""Which days of what services saw are too old to keep? By each service's file, whether it still runs or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from components.platform.settings import Settings
from pipelines.language.serving import load_serving, serving_files
from registry.serving.log.segments import segments_of, services_in


@dataclass(frozen=True)
class Overdue:
    """What is older than it may be, of one service."""

    service: str
    before: datetime
    """Days that ended by then are too old, UTC."""
    days: int
    """How many folders of days that is, of answers and of feedback."""


def overdue(settings: Settings, now: datetime, otherwise: timedelta) -> list[Overdue]:
    """Return what services keep for longer than they may, by name.

    Args:
        settings: where the logs lie.
        now: the moment, UTC.
        otherwise: how long logs are kept whose service has no file any more, or no `log` in it.
    """
    files, found = serving_files(), []
    for service in services_in(settings.artifacts):
        log = load_serving(files[service]).log if service in files else None
        before = now - (log.keep if log is not None else otherwise)
        days = sum(len(part.days_before(before)) for part in segments_of(settings.artifacts, service))
        if days:
            found.append(Overdue(service, before, days))
    return found


def forget(settings: Settings, found: Overdue) -> int:
    """Delete what is overdue and return how many folders of days that was."""
    return sum(part.forget(found.before) for part in segments_of(settings.artifacts, found.service))
