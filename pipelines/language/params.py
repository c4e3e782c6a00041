"""Which value does a parameter take, and where is it put? `${params.NAME}` replaces a whole value, keeping its type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from components.platform.errors import BadInputError, did_you_mean
from features.declaration import Window
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language.plan import PlannedStage
from pipelines.language.schedule import first_run, schedule_parts
from pipelines.language.shape import describe
from pipelines.language.spec import ParamSpec, PipelineSpec

REFERENCE = re.compile(r"\$\{params\.([a-z][a-z0-9_]*)\}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_moment(text: str) -> datetime:
    """Return the time that ``--at`` names; without an offset it is UTC.

    Raises:
        BadInputError: it is no time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"--at is {text!r}: give a time such as 2026-01-31 or 2026-01-31T02:00:00Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def texts(value: Any, where: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield every text inside a value with its path below it."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, (*where, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from texts(inner, (*where, index))


def references(value: Any) -> dict[KeyPath, str]:
    """Return the parameter named by each value that is wholly a reference, by path."""
    return {where: match[1] for where, text in texts(value) if (match := REFERENCE.fullmatch(text))}


def substitute(value: Any, params: Mapping[str, Any]) -> Any:
    """Return a copy of `value` with every reference to one of `params` replaced by the parameter's value."""
    if isinstance(value, str):
        match = REFERENCE.fullmatch(value)
        return params[match[1]] if match and match[1] in params else value
    if isinstance(value, Mapping):
        return {key: substitute(inner, params) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(inner, params) for inner in value]
    return value


def resolve_config(stage: PlannedStage, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a stage with its parameters put in.

    Raises:
        BadInputError: a parameter that the config names is not in `params`.
    """
    for where, name in references(stage.config).items():
        if name not in params:
            raise BadInputError(
                f"stage {stage.name!r}: {'.'.join(map(str, where))} needs the param {name!r}: give it a value"
            )
    resolved: dict[str, Any] = substitute(stage.config, params)
    return resolved


def resolve_window(spec: PipelineSpec, params: Mapping[str, Any], now: datetime) -> Window:
    """Return the interval of events that a run reads: whole UTC days.

    Where the window ends with the day of a run that a cron expression starts, it holds what was stored before that
    day's first run, whoever reads it and when: so a backfill gives the rows that the run of the day got.

    Args:
        spec: the pipeline.
        params: value of every parameter.
        now: the moment the run is for, with a time zone; without `window.end` the window ends at its UTC midnight.

    Raises:
        BadInputError: the end is no date, or the window starts before the year 1.
    """
    end = spec.window.end
    if isinstance(end, str):
        match = REFERENCE.fullmatch(end)
        given = params.get(match[1]) if match else end
        if not isinstance(given, str) or not _is_date(given):
            raise BadInputError(f"window.end is {quoted(given)}: give a date such as 2026-01-31")
        end = date.fromisoformat(given)
    midnight = datetime.combine(end or now.astimezone(UTC).date(), time(), UTC)
    try:
        start = midnight - timedelta(days=spec.window.days)
    except OverflowError:
        raise BadInputError(
            f"a window of {spec.window.days} days before {midnight:%Y-%m-%d} starts before the year 1: take fewer days"
        ) from None
    parts = schedule_parts(spec)
    known_until = first_run(parts.cron, midnight, parts.timezone) if parts.cron and end is None else None
    return Window(start=start, end=midnight, known_until=known_until)


def check_params(spec: PipelineSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every parameter: what is given, checked, and the defaults of the rest.

    Raises:
        BadInputError: a name is not a parameter of the pipeline, or a value does not fit; all of them in one message.
    """
    wrong = [
        f"{spec.name} has no param {name!r}{did_you_mean(name, spec.params)}"
        for name in sorted(given)
        if name not in spec.params
    ]
    absent = [name for name, param in spec.params.items() if param.required and name not in given]
    wrong += [f"param {name!r} has no default: give each run a value, --param {name}=VALUE" for name in absent]
    values = {name: given.get(name, param.default) for name, param in spec.params.items() if name not in absent}
    for name, value in values.items():
        if (reason := misfit(spec.params[name], value)) is not None:
            wrong.append(f"param {name!r} {reason}")
    if wrong:
        raise BadInputError("; ".join(wrong))
    return values


def parse_params(spec: PipelineSpec, pairs: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that a command line gives as ``name=value``, in the type that each declares.

    Raises:
        BadInputError: a pair has no ``=``, comes twice, or does not fit; see `check_params`.
    """
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name in given:
            state = "comes twice" if equals else "has no value"
            raise BadInputError(f"param {quoted(name)} {state}: write --param NAME=VALUE once")
        given[name] = _parsed(spec.params[name], text) if name in spec.params else text
    return check_params(spec, given)


def _parsed(param: ParamSpec, text: str) -> Any:
    """Return `text` in the parameter's type, or as it is when it does not fit: `misfit` says so then."""
    if param.nullable and text == "null":
        return None
    try:
        if param.type in ("array", "object"):
            return json.loads(text)
        if param.type == "integer":
            return int(text)
        if param.type == "number":
            return float(text)
    except ValueError:
        return text
    return {"true": True, "false": False}.get(text, text) if param.type == "boolean" else text


def misfit(param: ParamSpec, value: Any) -> str | None:
    """Return why a value does not fit a parameter, as ``must be ..., not ...``, or None when it does."""
    if value is None and param.nullable:
        return None
    expected = _unlike(param.type, value)
    if expected is not None:
        expected += " or null" if param.nullable else ""
    elif param.type == "array":
        kind = param.items.type if param.items else None
        at, expected = next(
            ((at, other) for at, entry in enumerate(value) if kind and (other := _unlike(kind, entry))), (0, None)
        )
        if expected is not None:
            return f"must hold {expected} at [{at}], not {describe(value[at])}"
    elif param.enum and value not in param.enum:
        expected = f"one of {', '.join(map(str, param.enum))}"
    elif isinstance(value, int | float) and param.minimum is not None and value < param.minimum:
        expected = f"at least {param.minimum:g}"
    elif isinstance(value, int | float) and param.maximum is not None and value > param.maximum:
        expected = f"at most {param.maximum:g}"
    elif param.format == "date" and not _is_date(str(value)):
        expected = "a date such as 2026-01-31"
    elif param.format == "date-time" and not _is_moment(str(value)):
        expected = "a time with its offset such as 2026-01-31T02:00:00Z"
    return None if expected is None else f"must be {expected}, not {describe(value)}"


def form_schema(param: ParamSpec) -> dict[str, Any]:
    """Return the JSON Schema of a parameter's field in the trigger form."""
    limits = {"minimum": param.minimum, "maximum": param.maximum}
    whole = param.type == "integer"
    schema: dict[str, Any] = {name: int(v) if whole else v for name, v in limits.items() if v is not None}
    if param.enum:
        schema["enum"] = [*param.enum, *([None] if param.nullable else [])]
    if param.format:
        schema["format"] = param.format
    if param.items:
        schema["items"] = {"type": param.items.type}
    return schema | {"type": [param.type, "null"] if param.nullable else param.type}


_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "string": ("a text", (str,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "array": ("a list", (list,)),
    "object": ("a block of keys", (dict,)),
}
"""By JSON type its name and what has it."""


def _unlike(kind: str, value: Any) -> str | None:
    """Return the name of a type that a value does not have, or None when it has it."""
    words, types = _KINDS[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "boolean"):
        return words
    return "a finite number" if isinstance(value, float) and not math.isfinite(value) else None


def written(value: Any) -> str:
    """Return a value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text)) and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _is_moment(text: str) -> bool:
    try:
        return bool(_DATE.match(text)) and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
