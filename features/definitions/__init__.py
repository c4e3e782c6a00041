"""Which Feast objects exist? Every module in this folder that holds a `DEFINITIONS`.

To add a feature: write a source with its recipe, a view and a service in a module here (see
`movielens.py`), and end it with `DEFINITIONS = Definitions(...)`.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import Any

from features.definitions.recipe import Activity, Recipe
from features.ground.errors import BadInputError, MissingError, did_you_mean
from features.ground.quick_feast import quicken_feast
from features.readable import other_keys, require_readable


@dataclass(frozen=True)
class Definitions:
    """Feast objects of one or more modules, and the recipe behind each source."""

    entities: tuple[Any, ...]
    views: tuple[Any, ...]
    """`feast.FeatureView` objects; their batch sources are `feast.FileSource` with a path relative to the folder of a
    `FeatureTables` artifact."""
    services: tuple[Any, ...]
    recipes: dict[str, Recipe]
    origin: str = "features/definitions/"
    """Where they are defined, for errors."""

    def service(self, name: str) -> Any:
        """Return a feature service.

        Raises:
            MissingError: there is none; the message holds the nearest name.
        """
        known = {service.name: service for service in self.services}
        if name not in known:
            raise MissingError(
                f"no feature service {name!r}{did_you_mean(name, known)}; services are defined in {self.origin}"
            )
        return known[name]

    def views_of(self, service: str) -> tuple[Any, ...]:
        """Return the feature views of a service, sorted by name."""
        wanted = {projection.name for projection in self.service(service).feature_view_projections}
        return tuple(sorted((view for view in self.views if view.name in wanted), key=lambda view: str(view.name)))


@cache
def load_definitions() -> Definitions:
    """Return the definitions of every module in this folder, in the order of their names.

    Raises:
        BadInputError: two modules define different objects under one name, or a source has no recipe.
    """
    quicken_feast()
    found: list[Definitions] = []
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        definitions = getattr(module, "DEFINITIONS", None)
        if definitions is not None:
            found.append(definitions)
    merged = Definitions(
        entities=_distinct([entity for part in found for entity in part.entities]),
        views=_distinct([view for part in found for view in part.views]),
        services=_distinct([service for part in found for service in part.services]),
        recipes={name: recipe for part in found for name, recipe in part.recipes.items()},
    )
    require_whole(merged)
    return merged


def require_whole(definitions: Definitions) -> None:
    """Check that everything the objects say is read, and that the source of every view has a recipe with its keys.

    Raises:
        BadInputError: something is not read, or a source has no recipe, or one with other keys.
    """
    require_readable(definitions.entities, definitions.views, definitions.services)
    for view in definitions.views:
        if view.batch_source.name not in definitions.recipes:
            raise BadInputError(
                f"feature view {view.name!r}: its source {view.batch_source.name!r} has no recipe; "
                "add one to the recipes of its DEFINITIONS"
            )
        recipe = definitions.recipes[view.batch_source.name]
        if fault := other_keys(view.name, view.join_keys, recipe.keys) or _longer_than_listed(view, recipe):
            raise BadInputError(fault)


def _longer_than_listed(view: Any, recipe: Recipe) -> str | None:
    """Return what is wrong with a view that promises more events of a history than its recipe lists."""
    for history in recipe.histories if isinstance(recipe, Activity) else ():
        for field in view.features:
            length = int((field.tags or {}).get("length", 0)) if field.name in history.columns else 0
            if length > history.length:
                return (
                    f"feature view {view.name!r}: {field.name!r} has length {length:,} in its tags, and its recipe "
                    f"lists {history.length:,} events: write History(..., length={length})"
                )
    return None


def _distinct(objects: list[Any]) -> tuple[Any, ...]:
    by_name: dict[str, Any] = {}
    for candidate in objects:
        # Entities may be imported by several modules: the same object twice is one object.
        if by_name.setdefault(candidate.name, candidate) is not candidate:
            raise BadInputError(
                f"features/definitions: {type(candidate).__name__} {candidate.name!r} is defined twice; rename one"
            )
    return tuple(by_name.values())
