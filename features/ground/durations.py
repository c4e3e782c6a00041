"""How is a span of time written in YAML? `30s`, `5m`, `2h` or `1d`, in every file that people write."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, StringConstraints

_DURATION = re.compile(r"^(?P<count>[1-9][0-9]{0,5})(?P<unit>ms|[smhd])$")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = timedelta(days=36_500)
"""Longest duration; the timer that ends a task takes no more than about 290 years."""


def duration_of(value: Any) -> Any:
    """Return the span that a text such as `5m` writes; a span as it is.

    Raises:
        ValueError: it is neither, or too long.
    """
    duration = value
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)) and match["unit"] != "ms":
        duration = timedelta(**{_UNITS[match["unit"]]: int(match["count"])})
    if not isinstance(duration, timedelta):
        raise ValueError("must be a duration such as 30s, 5m, 2h or 1d")
    if duration > LONGEST:
        raise ValueError(f"must be at most {LONGEST.days}d")
    return duration


def latency_of(value: Any) -> Any:
    """Return the span that a text such as `50ms` or `2s` writes; a span as it is.

    Raises:
        ValueError: it is neither, or too long.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)) and match["unit"] == "ms":
        return timedelta(milliseconds=int(match["count"]))
    try:
        return duration_of(value)
    except ValueError as error:
        raise ValueError(str(error).replace("30s, 5m", "50ms, 30s, 5m")) from None


def written(value: timedelta) -> str:
    """Return a span as YAML writes it, in its largest whole unit: `90m`, `2h`, `50ms`."""
    milliseconds = round(value.total_seconds() * 1000)
    sizes = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))
    size, unit = next((size, unit) for size, unit in sizes if not milliseconds % size)
    return f"{milliseconds // size}{unit}"


Duration = Annotated[
    timedelta,
    BeforeValidator(
        duration_of, json_schema_input_type=Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}[smhd]$")]
    ),
    PlainSerializer(written, return_type=str, when_used="json"),
]
"""`30s`, `5m`, `2h` or `1d`."""
Latency = Annotated[
    timedelta,
    BeforeValidator(
        latency_of, json_schema_input_type=Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}(ms|[smhd])$")]
    ),
    PlainSerializer(written, return_type=str, when_used="json"),
]
"""`50ms`, or a longer one as a `Duration`."""
