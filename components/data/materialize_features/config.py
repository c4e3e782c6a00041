"""What does `materialize_features` take and give? Events in, Feast sources and a fresh online store out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from components.platform.artifacts import EventsTable, FeatureTables
from components.platform.columns import Column, Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.errors import did_you_mean
from components.platform.paths import DefinitionsFile
from features.declaration import Name
from features.definitions.recipe import IMPRESSIONS, Activity
from features.services.service_text import TextService, told


class Config(ComponentConfig):
    """Which Feast feature service to bring up to date."""

    feature_service: Name
    """Name of a feature service of the definitions."""
    definitions: DefinitionsFile | None = None
    """Python file with your own Feast definitions, beside the pipeline; left out, those in `features/definitions/`."""
    online: bool = True
    """Also write the newest values into the online store."""
    chunks: int = Field(1, ge=1, le=1000)
    """Parts the window is written online in, oldest first; more parts need less memory."""


class Inputs(Ports):
    """Impressions that the features are computed from."""

    table: EventsTable


class Outputs(Ports):
    """Parquet files behind the service's sources."""

    feature_tables: FeatureTables


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
        if not events.timed and isinstance(recipe, Activity):
            said = "counts what came before a row, and the events have no time (timestamp: none)"
            yield Fault(where, f"the recipe of {source!r} {said}: choose features of a Profile alone")
            continue
        logs = {IMPRESSIONS: events} if recipe.log == IMPRESSIONS else events.logs
        if logs is None:
            continue
        if recipe.log not in logs:
            near = did_you_mean(recipe.log, logs)
            yield Fault(where, f"the recipe of {source!r} reads the log {recipe.log!r}, which the events lack{near}")
            continue
        what = "the events lack" if recipe.log == IMPRESSIONS else f"the log {recipe.log!r} lacks"
        for name in recipe.reads:
            if absent := logs[recipe.log].absent(name):
                yield Fault(where, f"the recipe of {source!r} reads what {what}: {absent}")
        if isinstance(recipe, Activity):
            yield from _listed(source, recipe, logs[recipe.log], service)
    for name, wanted in (service.keys or {}).items():
        found = events.known.get(name)
        if found is not None and {found.dtype, wanted} == {"string", "int64"}:
            yield Fault(
                where,
                f"{name!r} is {found.dtype} in the events and {wanted} in the entity of the service: "
                "give both the same type",
            )


def _listed(source: str, recipe: Activity, log: Columns, service: TextService) -> Iterator[Fault]:
    """Yield that a history has elements of one type and is declared to have those of another."""
    log_is = "the events" if recipe.log == IMPRESSIONS else f"the log {recipe.log!r}"
    for history in recipe.histories:
        for name, column in history.columns.items():
            found, feature = log.known.get(column), (service.features or {}).get(name)
            if found is None or feature is None or not found.dtype:
                continue
            wanted = feature.dtype.removeprefix("array<").removesuffix(">")
            if "string" in (found.dtype, wanted) and found.dtype != wanted:
                yield Fault(
                    ("feature_service",),
                    f"the recipe of {source!r} lists {column!r}, which is {found.dtype} in {log_is}, as {name!r}, "
                    f"whose elements are {wanted}: give both the same type",
                )


def _service(config: Config) -> TextService | None:
    return told(config.feature_service, Path(config.definitions) if config.definitions else None)


COMPONENT = ComponentSpec(
    name="materialize_features",
    version="3",
    summary="Compute the tables behind a Feast feature service and materialise the window into the online store.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.data.materialize_features.component:run",
    windowed=True,
    flow=Flow(gives=_gives, asks=_asks),
    sources=("features.joins.asof_store", "features.definitions"),
    after_publish="components.data.materialize_features.publish_online:publish_online",
)
