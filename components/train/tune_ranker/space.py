"""Which values may a trial have? A search space: by path of a knob a list of choices, or a range.

A value is right where `train_ranker` would take it in the same `with:` block, so names, types, bounds and choices are
those of the ranker's and the knobs' own models, and are kept nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from components.platform.contract import ComponentConfig
from components.platform.errors import did_you_mean
from components.rankers.config import PARTS, RankerConfig, Sizes, every_key
from components.train.train_ranker.config import Learning
from components.train.tuned import Value, changed, training_config

Number = int | float
UNTUNABLE: dict[str, str] = {
    "workers": "a trial is one process",
    "device": "it changes where a trial computes, not what it learns",
    "checkpoints": "it changes what is kept of a training, not what it learns",
    "shuffle_rows": "it is a question of memory",
    "tables.sharded": "it changes who holds a row, not what is learned",
    "seed": "the best seed is luck; repeat_best trains the best trials with others",
    "ranker.name": "another ranker has other knobs; rankers are compared by `rankmill compare`",
    "ranker.code": "it is filled in",
}
"""Knobs that no search may vary, and why."""


class Between(ComponentConfig):
    """Any value of a range, each as likely."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    from_: Number = Field(alias="from")
    """Smallest value."""
    to: Number
    """Largest value."""


class Log(ComponentConfig):
    """Any value of a range, each order of magnitude as likely."""

    log: Annotated[tuple[Number, ...], Field(min_length=2, max_length=2)]
    """Smallest and largest value, both above 0."""


def _form(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return _ORDERS if "log" in entry else _RANGE
    return _ORDERS if isinstance(entry, Log) else _RANGE if isinstance(entry, Between) else _LIST


_LIST, _RANGE, _ORDERS = "a list", "a range", "orders of magnitude"
Choices = Annotated[tuple[Value, ...], Field(min_length=1)]
Entry = Annotated[
    Annotated[Choices, Tag(_LIST)] | Annotated[Between, Tag(_RANGE)] | Annotated[Log, Tag(_ORDERS)],
    Discriminator(_form),
]
"""What a knob may be: one of a list, or within a range; which of them it is shows in its form."""
Space = dict[str, Entry]


@dataclass(frozen=True)
class Choice:
    """One knob that takes one of some values."""

    path: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """One knob that takes any value between two."""

    path: str
    low: Number
    high: Number
    log: bool
    whole: bool
    """Whether the knob takes whole numbers only."""


Dimension = Choice | Range


def dimensions(space: Mapping[str, Entry], block: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """Return the knobs of a space that is right, sorted by path.

    Args:
        space: what to search.
        block: `with:` block of `train_ranker` that holds everything else.
    """
    return tuple(_dimension(path, space[path], block) for path in sorted(space))


def size(found: tuple[Dimension, ...]) -> int | None:
    """Return how many different trials there are; None where a range makes them too many to count."""
    count = 1
    for one in found:
        if isinstance(one, Choice):
            count *= len(one.values)
        elif one.whole and not one.log:
            count *= int(one.high) - int(one.low) + 1
        else:
            return None
    return count


def faults(
    space: Mapping[str, Entry], search: Literal["random", "grid", "optuna"], block: Mapping[str, Any]
) -> Iterator[InitErrorDetails]:
    """Yield everything that is wrong with a space, with its place below ``space``.

    Args:
        space: what to search.
        search: how.
        block: `with:` block of `train_ranker` that holds everything else, and is right itself.
    """
    known = tunable(block)
    for path, entry in space.items():
        if reason := _unknown(path, known):
            yield _said(("space", path, "[key]"), path, reason)
            continue
        places = dict(_values(entry))
        wrong = [found for where, value in places.items() for found in _refusals(block, path, where, value)]
        # That the ranker does not read a knob at all is said once, and not for each value.
        once = {
            str(found["ctx"] if isinstance(found["type"], PydanticCustomError) else found["loc"]): found
            for found in wrong[::-1]
        }
        yield from [*once.values()][::-1]
        if wrong:
            continue
        if isinstance(entry, tuple):
            for place, value in enumerate(entry):
                if any(value == other and type(value) is type(other) for other in entry[:place]):
                    yield _said(("space", path, place), value, f"{value!r} is listed twice: remove one of them")
            continue
        low, high = ends(entry)
        if low >= high:
            where = ("space", path, *list(places)[1])
            yield _said(where, high, f"a range goes from smaller to larger, and {high:g} is not above {low:g}")
        elif isinstance(entry, Log) and min(entry.log) <= 0:
            yield _said(
                ("space", path, "log", 0), low, f"{low:g} has no logarithm: write {{from: {low:g}, to: {high:g}}}"
            )
        elif search == "grid":
            message = f"a grid has points, and {path} is a range: list its values"
            yield _said(("space", path), entry, message)


def ends(entry: Between | Log) -> tuple[Number, Number]:
    """Return the smallest and the largest value of a range."""
    return (entry.log[0], entry.log[1]) if isinstance(entry, Log) else (entry.from_, entry.to)


def tunable(block: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of every knob that a search may vary, of a `with:` block that is right."""
    ranker = type(training_config(block).ranker)
    paths = [*_paths(Learning, ""), *(f"ranker.{key}" for key in ranker.model_fields)]
    return tuple(path for path in paths if _may_vary(path))


def named_knobs() -> dict[str, Any]:
    """Return the JSON schema of a space's keys: knobs by name, and what any ranker or part reads; and an example."""
    knobs = [path for path in _paths(Learning, "") if _may_vary(path)]
    usual = [f"ranker.{key}" for key in (*Sizes.model_fields, *PARTS)]
    names = [{"enum": [*knobs, *usual]}, {"pattern": r"^ranker\.[a-z][a-z0-9_]*$"}]
    return {"propertyNames": {"anyOf": names}, "examples": [{"learning_rate": {"log": [0.0001, 0.01]}}]}


def _may_vary(path: str) -> bool:
    return path not in UNTUNABLE and path.split(".")[0] not in UNTUNABLE


def _paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, RankerConfig):
            yield from _paths(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _unknown(path: str, known: tuple[str, ...]) -> str | None:
    """Return why a path is no knob that a search may vary."""
    refused = next((key for key in UNTUNABLE if path == key or path.startswith(f"{key}.")), None)
    if refused is not None:
        return f"{path} cannot be tuned, because {UNTUNABLE[refused]}: leave it out of the space"
    if path in known or (path.startswith("ranker.") and path.removeprefix("ranker.") in every_key()):
        return None  # a key of another part is refused by the ranker itself, which knows who reads it
    return f"no knob {path!r}{did_you_mean(path, known)}"


def _values(entry: Entry) -> Iterator[tuple[tuple[str | int, ...], Value]]:
    """Yield the values that an entry names, by their place in it."""
    if isinstance(entry, Between):
        yield ("from",), entry.from_
        yield ("to",), entry.to
    elif isinstance(entry, Log):
        for place, limit in enumerate(entry.log):
            yield ("log", place), limit
    else:
        for place, value in enumerate(entry):
            yield (place,), value


def _refusals(
    block: Mapping[str, Any], path: str, where: tuple[str | int, ...], value: Value
) -> Iterator[InitErrorDetails]:
    """Yield why `train_ranker` would not take a value."""
    try:
        training_config(changed(block, {path: value}))
    except ValidationError as error:
        place = ("space", path, *where)
        for found in error.errors(include_url=False):
            kind, context = found["type"], found.get("ctx", {})
            if kind in ("value_error", "assertion_error"):
                yield _said(place, value, str(context.get("error", found["msg"])))
            else:
                yield InitErrorDetails(type=kind, ctx=context, loc=place, input=value)


def _said(place: tuple[str | int, ...], value: Any, sentence: str) -> InitErrorDetails:
    kind = PydanticCustomError("value_error", "{error}", {"error": sentence})
    return InitErrorDetails(type=kind, ctx={"error": sentence}, loc=place, input=value)


def _dimension(path: str, entry: Entry, block: Mapping[str, Any]) -> Dimension:
    if isinstance(entry, tuple):
        return Choice(path, entry)
    low, high = ends(entry)
    try:
        training_config(changed(block, {path: low + (high - low) * 0.4142}))
        whole = False
    except ValidationError:
        whole = True  # both ends are right and what lies between them is not
    return Range(path, low, high, isinstance(entry, Log), whole)
