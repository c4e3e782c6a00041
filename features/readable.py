"""Which Feast objects are read whole? Everything else is refused by name, so that nothing of a definition is dropped.

A feature service holds projections of views. What a projection, a view or a source may say and is not followed here,
offline and online alike, is one sentence before anything runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from features.ground.errors import BadInputError, did_you_mean

EVENT_TIME, CREATED = "event_timestamp", "created_timestamp"
SCALARS = ("int32", "int64", "float32", "float64", "string", "bool", "unix_timestamp")
ELEMENTS = ("int32", "int64", "float32", "float64", "string", "bool")
"""What an array may hold."""
PROJECTION_READ = frozenset({"name", "features"})
"""Attributes of a projection that are followed."""
PROJECTION_OF_VIEW = frozenset(
    {"timestamp_field", "date_partition_column", "created_timestamp_column", "batch_source", "view_type"}
)
"""Attributes that Feast copies from the view; they must be the view's own."""
PROJECTION_REFUSED = {
    "name_alias": "with_name",
    "join_key_map": "with_join_key_map",
    "version_tag": "a pinned version",
    "desired_features": "a choice of features of a view without schema",
}
"""Attributes that are not followed, and how they are asked for."""
VIEW_REFUSED = {
    "stream_source": "reads a stream",
    "source_views": "is derived from other views",
    "mode": "transforms its rows (mode)",
    "offline": "writes pushed rows offline (offline=True)",
    "enable_validation": "validates at materialisation (enable_validation)",
}
"""Attributes of a view that must be empty, and what they mean."""


def require_readable(entities: Sequence[Any], views: Sequence[Any], services: Sequence[Any]) -> None:
    """Check that everything the objects say is followed offline and online.

    Raises:
        BadInputError: a view, source, field, service or projection says something that is not read.
    """
    for fault in _faults(entities, views, services):
        raise BadInputError(fault)


def _faults(entities: Sequence[Any], views: Sequence[Any], services: Sequence[Any]) -> Iterator[str]:
    for objects in (entities, views, services):
        yield from _twice(objects)
    for view in views:
        yield from _view_faults(view, {entity.name: entity for entity in entities})
    yield from _shared_sources(views)
    for service in services:
        yield from _service_faults(service, {view.name: view for view in views})


def _twice(objects: Sequence[Any]) -> Iterator[str]:
    first: dict[str, Any] = {}
    for thing in objects:
        if first.setdefault(thing.name, thing) is not thing:
            yield f"{type(thing).__name__} {thing.name!r} is defined twice in DEFINITIONS: rename one"


def _view_faults(view: Any, entities: dict[str, Any]) -> Iterator[str]:
    from feast import FeatureView, FileSource

    if type(view) is not FeatureView:
        yield (
            f"{type(view).__name__} {view.name!r} is not read, in training or when serving: write a FeatureView "
            "over a source with a recipe, or compute the column at ingestion"
        )
        return
    where = f"feature view {view.name!r}"
    for name, what in VIEW_REFUSED.items():
        if getattr(view, name, None):
            yield f"{where} {what}, which is not read: leave that out, and read a FileSource with a recipe"
    if view.version != "latest" or not view.enabled:
        what = "is not enabled" if not view.enabled else f"is pinned to version {view.version!r}"
        yield f"{where} {what}, which is not read: leave that out"
    if type(view.batch_source) is not FileSource:
        kind = type(view.batch_source).__name__ if view.batch_source is not None else "nothing"
        yield f"{where} reads {kind}: give it a FileSource, such as source({view.name!r}, ...) of definitions.common"
        return
    yield from _source_faults(where, view.batch_source)
    yield from _key_faults(where, view, entities)
    for field in [*view.entity_columns, *view.features]:
        if not _is_readable(field.dtype):
            yield (
                f"{where}: field {field.name!r} has dtype {field.dtype}, which is not read: use one of "
                f"{', '.join(SCALARS)}, or an Array of {', '.join(ELEMENTS)}"
            )
    if not view.features:
        yield f"{where} has no feature: list its columns in schema"


def _source_faults(where: str, source: Any) -> Iterator[str]:
    if source.field_mapping:
        yield f"{where}: field_mapping of its source is not read: give the recipe's columns the names of the fields"
    for attribute, expected in (("timestamp_field", EVENT_TIME), ("created_timestamp_column", CREATED)):
        if (found := getattr(source, attribute)) != expected:
            yield f"{where}: {attribute} of its source is {found!r}, recipes write {expected!r}: write that"
    if source.date_partition_column:
        yield f"{where}: date_partition_column of its source is not read: leave it out"
    if PurePosixPath(source.path).name != source.path or not source.path.endswith(".parquet"):
        yield (
            f"{where}: path of its source is {source.path!r}, must be a plain name that ends with .parquet, for the "
            "recipe writes that file"
        )


def _key_faults(where: str, view: Any, entities: dict[str, Any]) -> Iterator[str]:
    given = {column.name for column in view.entity_columns}
    for name in view.entities:
        entity = entities.get(name)
        if entity is None:
            none = name.startswith("__")  # Feast's stand-in for a view that names none
            yield (
                f"{where} has no entity: name what its rows are about" if none
                else f"{where}: entity {name!r} is not among the entities of DEFINITIONS{did_you_mean(name, entities)}"
            )  # fmt: skip
        elif entity.join_key not in given:
            yield (
                f"{where} has no Field for its key {entity.join_key!r}: add Field(name={entity.join_key!r}, dtype=...) "
                "to its schema"
            )


def other_keys(view: str, keys: Collection[str], recipe: Collection[str]) -> str | None:
    """Return what is wrong where a view has other keys than its recipe: rows of different things would be mixed."""
    if {*keys} == {*recipe}:
        return None
    ours, theirs = (" and ".join(map(repr, sorted(names))) for names in (keys, recipe))
    said = f"feature view {view!r} is keyed by {ours}, and its recipe by {theirs}"
    return f"{said}: name an entity for each key of the recipe"


def _is_readable(dtype: Any) -> bool:
    from feast.types import Array, PrimitiveFeastType

    if isinstance(dtype, Array):
        return isinstance(dtype.base_type, PrimitiveFeastType) and dtype.base_type.name.lower() in ELEMENTS
    return isinstance(dtype, PrimitiveFeastType) and dtype.name.lower() in SCALARS


def _shared_sources(views: Sequence[Any]) -> Iterator[str]:
    readers: dict[str, str] = {}
    for view in views:
        for what in {view.batch_source.name, view.batch_source.path}:
            if readers.setdefault(what, view.name) != view.name:
                yield f"feature views {readers[what]!r} and {view.name!r} read one source {what!r}: give each its own"


def _service_faults(service: Any, views: dict[str, Any]) -> Iterator[str]:
    where = f"feature service {service.name!r}"
    for reference in service._pending_feature_refs:  # Feast tells texts nowhere else before it applies them
        yield f"{where} names {reference!r} by text, which is not read: name the view, or view[['feature']]"
    if service.precompute_online:
        yield f"{where}: precompute_online is not read: leave it out"
    for projection in service.feature_view_projections:
        yield from _projection_faults(where, projection, views)


def _projection_faults(where: str, projection: Any, views: dict[str, Any]) -> Iterator[str]:
    from feast.feature_view_projection import FeatureViewProjection

    view = views.get(projection.name)
    if view is None:
        kind = "on-demand view" if projection.view_type == "onDemandFeatureView" else "view"
        hint = did_you_mean(projection.name, views)
        yield f"{where} asks for {kind} {projection.name!r}, which is not among the views of DEFINITIONS{hint}"
        return
    for attribute, asked_by in PROJECTION_REFUSED.items():
        if (value := getattr(projection, attribute)) not in (None, {}, []):
            said = (
                ", ".join(f"{ours}: {theirs}" for ours, theirs in value.items()) if isinstance(value, dict) else value
            )
            yield (
                f"{where} asks for view {projection.name!r} by {asked_by} ({said}), which is not read: write a view of "
                "its own with its own entity and recipe"
            )
    own = FeatureViewProjection.from_definition(view)
    for attribute in sorted(PROJECTION_OF_VIEW):
        if getattr(projection, attribute) != getattr(own, attribute):
            yield f"{where} changes {attribute} of view {projection.name!r}, which is not read: change the view"
    known = {field.name: field for field in view.features}
    for field in projection.features:
        if known.get(field.name) != field:
            yield f"{where} asks for feature {field.name!r} as view {projection.name!r} does not define it"
