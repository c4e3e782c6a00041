"""When does a pipeline run, and what for? Cron expressions and presets that Airflow understands, assets, partitions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from components.platform.errors import BadInputError, did_you_mean
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language.spec import JoinedAssets, PipelineSpec, Schedule

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
"""Words for a cron expression, as Airflow's timetables know them."""
_FIELD = re.compile(r"[0-9A-Za-z*/,#-]{1,100}")


class ScheduledRun(Protocol):
    """What a scheduler says about a run."""

    run_type: str
    logical_date: datetime | None
    data_interval_end: datetime | None
    run_after: datetime
    partition_key: str | None
    partition_date: datetime | None


@dataclass(frozen=True)
class ScheduleParts:
    """What starts runs of a pipeline."""

    cron: str | None = None
    """Expression or preset."""
    timezone: str = "UTC"
    """Where the expression's clock hangs."""
    assets: tuple[tuple[KeyPath, str], ...] = ()
    """`pipeline.stage.output`, each with its place in the file."""
    together: bool = False
    """Whether all assets must be new, rather than any."""


def schedule_parts(spec: PipelineSpec) -> ScheduleParts:
    """Return what starts runs of a pipeline, in whichever form its file says so."""
    schedule = spec.schedule
    if not isinstance(schedule, Schedule):
        return ScheduleParts(schedule)
    where: KeyPath = ("schedule", "assets")
    names: tuple[str, ...]
    if isinstance(schedule.assets, JoinedAssets):
        together = bool(schedule.assets.all)
        where, names = (*where, "all" if together else "any"), schedule.assets.all or schedule.assets.any
    else:
        together, names = False, schedule.assets
    assets = tuple(((*where, index), name) for index, name in enumerate(names))
    return ScheduleParts(schedule.cron, schedule.timezone or "UTC", assets, together)


def first_run(cron: str, moment: datetime, timezone: str = "UTC") -> datetime:
    """Return the first time at or after `moment` at which a cron expression or preset starts a run, UTC.

    As Airflow has it: a time that the clock skips in spring is an hour later, one that it shows twice in autumn is the
    second one, but an expression for every hour runs in both.
    """
    from croniter import croniter  # type: ignore[import-untyped]  # it ships no types

    # The next tick lies after the moment that is given, and runs start at whole seconds.
    whole = moment.astimezone(UTC).replace(microsecond=0)
    before = whole if moment.microsecond else whole - timedelta(seconds=1)
    zone = ZoneInfo(timezone)
    clock = before.astimezone(zone).replace(tzinfo=None)
    ticks = croniter(PRESETS.get(cron, " ".join(cron.split())), clock)
    following: datetime = ticks.get_next(datetime)
    if ticks.expanded[1] == ["*"]:
        return before + (following - clock)
    second = following.replace(tzinfo=zone, fold=1)
    skipped = second.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != following
    return (second.replace(fold=0) if skipped else second).astimezone(UTC)


def without_news(spec: PipelineSpec) -> str | None:
    """Return in one sentence why scheduled runs of a valid pipeline read the same rows again, or None.

    That is allowed, for a published data set does not grow; but a pipeline over a log that should follow it never does.
    """
    from croniter import croniter

    parts = schedule_parts(spec)
    cron = parts.cron
    if cron is None or "${" in cron:
        return None
    if spec.window.end is not None:
        return (
            f"every run of schedule {quoted(cron)} reads the same window, which ends on {_end(spec)}: leave window.end "
            "out for the days up to the day of a run, or set schedule: null"
        )
    ticks = croniter(PRESETS.get(cron, " ".join(cron.split())), datetime(2024, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    first, second = ticks.get_next(datetime), ticks.get_next(datetime)
    if parts.assets or first.date() != second.date():
        return None
    return (
        f"schedule {quoted(cron)} starts several runs a day, and a window is whole days: all of a day read the same "
        "rows; schedule one a day"
    )


def _end(spec: PipelineSpec) -> str:
    end = spec.window.end
    if not isinstance(end, str):
        return str(end)
    name = end.removeprefix("${params.").removesuffix("}")
    return f"{spec.params[name].default}, the default of {name}" if name in spec.params else end


def moment_of(run: ScheduledRun) -> datetime:
    """Return the time that a run is for: its window ends with the day of it.

    It is the run's partition where it has one, else the end of the interval that the scheduler or a backfill made it
    for, else its logical date, else the time at which it was to start: runs by hand and by assets have no other.

    Raises:
        BadInputError: the run's partition is no time.
    """
    if run.partition_key is not None:
        return run.partition_date or _partition(run.partition_key)
    if run.run_type in ("scheduled", "backfill") and run.data_interval_end is not None:
        return run.data_interval_end
    return run.logical_date or run.run_after


def _partition(key: str) -> datetime:
    try:
        moment = datetime.fromisoformat(key)
    except ValueError:
        raise BadInputError(
            f"the run's partition key {quoted(key)} is no time: give the day that the run is for, such as 2026-01-31"
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def cron_fault(text: str) -> str | None:
    """Return what is wrong with a cron expression or preset, or None when Airflow takes it."""
    if text.startswith("@"):
        return None if text in PRESETS else f"no preset {quoted(text)}{did_you_mean(text, PRESETS)}"
    fields = text.split()
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
        return f"{quoted(text)} is not a cron expression: write five fields (minute hour day month weekday) or @daily"
    # The library that Airflow reads cron expressions with, so that both agree.
    from croniter import croniter

    try:
        croniter(" ".join(fields)).get_next()
    except (ValueError, KeyError, IndexError, ArithmeticError) as error:
        reason = re.sub(r"^\[.*\] (is not acceptable, )?", "", str(error))
        return f"{quoted(text)} is not a cron expression ({reason}): mend that field or write a preset such as @daily"
    return None
