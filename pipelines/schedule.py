"""When does a pipeline run? Cron expressions and presets that Airflow understands, and assets."""

from __future__ import annotations

import re

from components.errors import did_you_mean
from pipelines.problems import quoted
from pipelines.spec import PipelineSpec, Schedule

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
"""Words for a cron expression, as Airflow's timetables know them."""
_FIELD = re.compile(r"[0-9A-Za-z*/,#-]{1,100}")


def schedule_parts(spec: PipelineSpec) -> tuple[str | None, tuple[str, ...]]:
    """Return the cron expression or preset, if any, and the assets of a pipeline's schedule."""
    if isinstance(spec.schedule, Schedule):
        return spec.schedule.cron, spec.schedule.assets
    return spec.schedule, ()


def cron_fault(text: str) -> str | None:
    """Return what is wrong with a cron expression or preset, or None when Airflow takes it."""
    if text.startswith("@"):
        return None if text in PRESETS else f"no preset {quoted(text)}{did_you_mean(text, PRESETS)}"
    fields = text.split()
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
        return f"{quoted(text)} is not a cron expression: write five fields (minute hour day month weekday) or @daily"
    # The library that Airflow reads cron expressions with, so that both agree.
    from croniter import croniter  # type: ignore[import-untyped]  # it ships no types

    try:
        croniter(" ".join(fields)).get_next()
    except (ValueError, KeyError, IndexError, ArithmeticError) as error:
        reason = re.sub(r"^\[.*\] (is not acceptable, )?", "", str(error))
        return f"{quoted(text)} is not a cron expression ({reason}): mend that field or write a preset such as @daily"
    return None
