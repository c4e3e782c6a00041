"""What does a feature service promise? Its features, keys and files, readable without Feast."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from features.declaration import FieldEncoding, Frozen, Name, Window
from features.definitions import Definitions, load_definitions
from features.definitions.recipe import Activity, Recipe
from features.ground.errors import BadInputError


class FeatureSnapshot(Frozen):
    """One feature of a service."""

    name: Name
    """Column in the training rows and feature in online answers."""
    view: str
    """Feature view it comes from."""
    dtype: str
    """Feast dtype, such as ``int64``, ``float32`` or ``array<string>``."""
    encoding: FieldEncoding | None = None
    """Default encoding from the field's tags; None leaves it to the dtype."""
    auxiliary: bool = False
    """Whether the ranker sees it only when the pipeline encodes it by name."""


class SourceSnapshot(Frozen):
    """The table behind one feature view."""

    name: str
    """Source name, also its recipe's."""
    view: str
    """Feature view that reads it."""
    file: str
    """File name inside the `FeatureTables` artifact."""
    keys: dict[str, str]
    """Entity key columns and their dtypes."""
    ttl_days: int
    """Age in days after which a row counts as missing; 0 never."""


class ServiceSnapshot(Frozen):
    """A feature service as it was when its tables were computed."""

    service: Name
    """Name."""
    features: tuple[FeatureSnapshot, ...]
    """Sorted by name."""
    sources: tuple[SourceSnapshot, ...]
    """Sorted by name."""
    window: Window
    """Impressions the tables were computed from."""
    rows: dict[str, int]
    """Rows per source."""

    @property
    def keys(self) -> dict[str, str]:
        """Entity key columns of all sources with their dtypes."""
        return {name: dtype for source in self.sources for name, dtype in sorted(source.keys.items())}

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the feature views."""
        return tuple(source.view for source in self.sources)


def describe(
    service: str, definitions: Definitions | None = None
) -> tuple[list[FeatureSnapshot], list[SourceSnapshot]]:
    """Return the features and sources of a service, each sorted by name.

    Raises:
        MissingError: there is no such service.
        BadInputError: two views of the service hold a feature of the same name, or a tag is wrong.
    """
    definitions = definitions or load_definitions()
    chosen = {
        (projection.name, field.name)
        for projection in definitions.service(service).feature_view_projections
        for field in projection.features
    }
    features: dict[str, FeatureSnapshot] = {}
    sources = []
    for view in definitions.views_of(service):
        keys = {
            column.name: dtype_name(column.dtype) for column in sorted(view.entity_columns, key=lambda c: str(c.name))
        }
        ttl = view.ttl or timedelta(0)
        if ttl % timedelta(days=1):
            raise BadInputError(f"feature view {view.name!r}: ttl {ttl} is not a whole number of days; round it")
        sources.append(
            SourceSnapshot(
                name=view.batch_source.name, view=view.name, file=view.batch_source.path, keys=keys, ttl_days=ttl.days
            )
        )
        for field in view.features:
            if (view.name, field.name) not in chosen:
                continue
            if field.name in features:
                raise BadInputError(
                    f"service {service!r}: feature {field.name!r} is in {features[field.name].view!r} and in "
                    f"{view.name!r}; rename one"
                )
            features[field.name] = _feature(view.name, field)
    return sorted(features.values(), key=lambda f: f.name), sorted(sources, key=lambda s: s.name)


def shortened(view: Any, recipe: Recipe) -> dict[str, int]:
    """Return by feature how many events a view keeps of a history that its fields' tags read less of than the recipe.

    What the tags say is joined for training and written online, so that both hold the same.
    """
    tagged = {field.name: int(field.tags["length"]) for field in view.features if "length" in (field.tags or {})}
    found: dict[str, int] = {}
    for history in recipe.histories if isinstance(recipe, Activity) else ():
        here = [field.name for field in view.features if field.name in history.columns]
        kept = max((tagged.get(name, history.length) for name in here), default=history.length)
        found |= dict.fromkeys(here, kept) if kept < history.length else {}
    return found


def dtype_name(dtype: Any) -> str:
    """Return the name of a Feast type, such as ``int64``, ``string`` or ``array<float32>``."""
    base = getattr(dtype, "base_type", None)
    return f"array<{dtype_name(base)}>" if base is not None else str(dtype.name).lower()


def _feature(view: str, field: Any) -> FeatureSnapshot:
    tags = dict(field.tags or {})
    auxiliary = tags.pop("role", "") == "auxiliary"
    try:
        encoding = FieldEncoding.model_validate(tags) if tags else None
    except ValueError as error:
        raise BadInputError(f"feature {field.name!r} of view {view!r}: its tags are no encoding ({error})") from None
    return FeatureSnapshot(
        name=field.name, view=view, dtype=dtype_name(field.dtype), encoding=encoding, auxiliary=auxiliary
    )
