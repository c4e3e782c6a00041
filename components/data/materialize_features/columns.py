"""Which columns do a service's features have, and which must the events have? Known from the definitions' text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.columns import Column, Columns, Fault, Flow
from features.definitions.recipe import IMPRESSIONS, Activity, Recipe
from features.services.service_text import TextService, told

if TYPE_CHECKING:
    from components.data.materialize_features.config import Config


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    service = _service(config)
    if service is None:
        return {}
    known = {name: Column(dtype, "key") for name, dtype in (service.keys or {}).items()}
    known |= {
        name: Column(feature.dtype, "other", feature.kind, feature.auxiliary)
        for name, feature in (service.features or {}).items()
    }
    whole = service.keys is not None and service.features is not None
    return {"feature_tables": Columns(known, whole)}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    service, events = _service(config), inputs.get("table")
    if service is None or events is None:
        return
    where = ("feature_service",)
    for source, recipe in service.recipes.items():
        if recipe.log != IMPRESSIONS:
            continue
        for name in _read(recipe):
            if absent := events.absent(name):
                yield Fault(where, f"the recipe of {source!r} reads what the events lack: {absent}")
    for name, wanted in (service.keys or {}).items():
        found = events.known.get(name)
        if found is not None and {found.dtype, wanted} == {"string", "int64"}:
            yield Fault(
                where,
                f"{name!r} is {found.dtype} in the events and {wanted} in the entity of the service: "
                "give both the same type",
            )


def _service(config: Config) -> TextService | None:
    return told(config.feature_service, Path(config.definitions) if config.definitions else None)


def _read(recipe: Recipe) -> Iterator[str]:
    """Yield the columns of the impressions that a recipe reads, each once."""
    names = [recipe.key]
    if isinstance(recipe, Activity):
        names += [rate.feedback for rate in recipe.rates]
        names += [part.column for part in recipe.sums]
        names += recipe.history.columns.values() if recipe.history else ()
    else:
        names += recipe.columns
    yield from dict.fromkeys(names)


FLOW = Flow(gives=_gives, asks=_asks)
