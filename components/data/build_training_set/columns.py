"""Do the names in a training set's config mean columns of its events and features? Told without reading a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from components.platform.columns import Column, Columns, Fault, Flow
from components.platform.errors import did_you_mean
from components.rankers.tasks import tasks_of

if TYPE_CHECKING:
    from components.data.build_training_set.config import Config

Where = tuple[str | int, ...]


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    events, features = inputs.get("events"), inputs.get("features")
    known = {name: Column() for _, name in _named(config)}
    if events is not None:
        known |= {name: events.known[name] for name in known if name in events.known}
    known |= {name: Column(known[name].dtype, "feedback") for name in config.feedback}
    if features is not None:
        known |= _joined(config, features)
    kinds = {name: encoding.kind for name, encoding in config.encode.items() if encoding.kind}
    known = {
        name: Column(column.dtype, column.role, kinds.get(name, column.kind), name in {*config.carry, *config.drop})
        for name, column in known.items()
    }
    whole = features is not None and features.whole
    # Tasks of a label that does not exist are told once, at the label.
    sound = events is None or not any(events.absent(name) for name in config.feedback)
    tasks = tuple(task.name for task in tasks_of(config.declaration())) if sound else ()
    return {"training_set": Columns(known, whole, tasks)}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    events, features = inputs.get("events"), inputs.get("features")
    if events is not None:
        yield from _absent(config, events)
        yield from _labels(config, events)
    if features is not None:
        yield from _keys(config, events, features)
        yield from _features(config, features)


def _named(config: Config) -> Iterator[tuple[Where, str]]:
    """Yield every column of the impression that the config names, with its place."""
    yield ("user",), config.user
    yield ("item",), config.item
    if config.domain is not None:
        yield ("domain",), config.domain
    for key in ("feedback", "context", "carry"):
        for position, name in enumerate(getattr(config, key)):
            yield (key, position), name
    yield (), config.declaration().time


def _absent(config: Config, events: Columns) -> Iterator[Fault]:
    for where, name in _named(config):
        if absent := events.absent(name):
            published = [n for n, column in events.known.items() if column.role == "domain"]
            if where == ("domain",) and published and f"mean {published[0]!r}" not in absent:
                absent = f"no column {name!r}: the domain is published as {published[0]!r}"
            yield Fault(where, f"the events have {absent}")


def _labels(config: Config, events: Columns) -> Iterator[Fault]:
    """A label is known only after the impression that a ranker is asked about."""
    for where, name in _named(config):
        column = events.known.get(name)
        if column is None or column.role != "feedback" or name in config.feedback or where[:1] in (("carry",), ()):
            continue
        yield Fault(
            where,
            f"{name!r} is a label of the ingestion or decides one, so it is known only after the impression: "
            f"leave it out of {where[0]}, or carry it",
        )


def _keys(config: Config, events: Columns | None, features: Columns) -> Iterator[Fault]:
    rows = {name for _, name in _named(config)}
    for name, column in features.known.items():
        if column.role != "key" or name in rows:
            continue
        if events is None or events.absent(name) is None:
            yield Fault(
                ("feature_service",),
                f"service {config.feature_service!r} is keyed by {name!r}, which the rows do not hold: "
                f"write carry: [{name}]",
            )


def _features(config: Config, features: Columns) -> Iterator[Fault]:
    rows = {name for _, name in _named(config)}
    offered = {name for name, column in features.known.items() if column.role != "key"}
    for name in sorted(offered & rows):
        where = next(place for place, named in _named(config) if named == name)
        yield Fault(where, f"{name!r} is a feature of the service as well: leave it out here, or rename the feature")
    if not features.whole:
        return
    for position, name in enumerate(config.include):
        if name not in offered:
            yield Fault(("include", position), f"the service has no feature {name!r}{did_you_mean(name, offered)}")
    roles = {config.user, config.item, *config.context, *((config.domain,) if config.domain else ())}
    seen = {*_joined(config, features), *roles}
    for position, name in enumerate(config.drop):
        if name not in seen:
            yield Fault(("drop", position), f"there is no feature {name!r} to drop{did_you_mean(name, seen)}")
    for name, encoding in config.encode.items():
        if name not in seen:
            yield Fault(("encode", name), f"there is no feature {name!r} to encode{did_you_mean(name, seen)}", "key")
        for key in ("shares", "timed_by"):
            other = getattr(encoding, key)
            if other is not None and other not in seen:
                yield Fault(("encode", name, key), f"there is no feature {other!r}{did_you_mean(other, seen)}")


def _joined(config: Config, features: Columns) -> dict[str, Column]:
    """Return the features of the service that the training set holds."""
    named = {*config.include, *config.encode}
    return {
        name: column
        for name, column in features.known.items()
        if column.role != "key" and (not column.auxiliary or name in named)
    }


FLOW = Flow(gives=_gives, asks=_asks)
