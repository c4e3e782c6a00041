"""What does the online store hold of these keys right now? For a server: opened once, changing nothing.

Feast's own `get_online_features` resolves views and builds messages anew in every call, and opening a store for writing
applies the definitions to the shared registry. A reader does neither. It applies no TTL: it says when a value happened,
and whoever keeps values for a while knows how old they are when they are used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.ground.errors import BadInputError, MissingError

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

Key = tuple[Any, ...]
PATIENCE = 2
"""Seconds that Redis may take for one answer; its client waits for ever for a machine that fell silent."""
VIEWS_FOR = 60.0
"""Seconds that a view's definition is used before the registry is asked for it again."""


@dataclass(frozen=True)
class Held:
    """What a view holds of one key."""

    values: tuple[Any, ...]
    """A number, a text or a list of each feature that was asked for, in that order; None where there is no value."""
    at: float | None
    """When that was so, in seconds since 1970 UTC; None where the store does not say."""


@dataclass
class OnlineReader:
    """The shared online store, for reading."""

    store: FeatureStore
    _views: dict[str, tuple[float, FeatureView]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, feast: Path) -> OnlineReader:
        """Open the store that materialisations write.

        Args:
            feast: folder of Feast's registry and embedded online store.

        Raises:
            MissingError: nothing was ever materialised there, or the configuration is gone.
            BadInputError: the configuration is not valid.
        """
        from feast import FeatureStore

        from features.joins.store import embedded_online_store, shared_config

        database = embedded_online_store(feast)
        if database is not None and not database.is_file():  # SQLite would make an empty one
            raise MissingError(f"there is no online store {database}: run the pipeline that materialises the features")
        config = shared_config(feast)
        _be_impatient(config.online_store)
        store = FeatureStore(config=config)
        store.repo_path = config.repo_path
        reader = cls(store)
        with suppress(Exception):  # whatever a store raises, its first question will tell
            reader._ask_for_nothing()
        return reader

    def _ask_for_nothing(self) -> None:
        """Read a key that nobody has: what libraries do at their first call takes longer than a question may."""
        from feast.protos.feast.types.Value_pb2 import Value

        from features.joins.online_columns import PLAIN

        for view in self.store.list_feature_views(allow_cache=True)[:1]:
            kinds = [kind for _, kind in _columns(view)]
            self.read(view.name, [tuple(getattr(Value(), PLAIN[kind]) for kind in kinds)], [view.features[0].name])

    def read(self, view: str, keys: Sequence[Key], names: Sequence[str]) -> list[Held | None]:
        """Return what a view holds of each key, None where it knows nothing of it.

        Args:
            view: name of the feature view.
            keys: values of its key columns, these in the order of their names; none of them missing.
            names: features that are wanted.

        Raises:
            MissingError: there is no such view.
            BadInputError: a key is of another type than the view's.
        """
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        from features.joins.online_columns import PLAIN

        if not keys:
            return []
        found = self._view(view)
        columns = _columns(found)
        joined = [name for name, _ in columns]
        try:
            asked = [
                EntityKey(
                    join_keys=joined,
                    entity_values=[
                        Value(**{PLAIN[kind]: value}) for (_, kind), value in zip(columns, key, strict=True)
                    ],
                )
                for key in keys
            ]
        except (TypeError, ValueError) as error:
            raise BadInputError(f"feature view {view!r} is keyed by {', '.join(joined)}: {error}") from None
        wanted = tuple(names)
        answers = self.store._get_provider().online_read(self.store.config, found, asked, list(names))
        return [_held(at, values, wanted) for at, values in answers]

    def _view(self, name: str) -> FeatureView:
        from feast.errors import FeastObjectNotFoundException

        with self._lock:
            kept = self._views.get(name)
            if kept is not None and time.monotonic() - kept[0] < VIEWS_FOR:
                return kept[1]
        try:
            view = self.store.get_feature_view(name, allow_registry_cache=True)
        except FeastObjectNotFoundException:
            raise MissingError(
                f"the online store has no feature view {name!r}: run the pipeline that materialises it"
            ) from None
        with self._lock:
            self._views[name] = (time.monotonic(), view)
        return view


def _columns(view: FeatureView) -> list[tuple[str, Any]]:
    """Return the key columns of a view with Feast's value types, in the order of their names."""
    return sorted((column.name, column.dtype.to_value_type()) for column in view.entity_columns)


def _be_impatient(online: Any) -> None:
    """Have Redis' client give up after `PATIENCE`, where its configuration does not say when."""
    where = getattr(online, "connection_string", "")
    if online.type == "redis" and "socket_timeout=" not in where:
        online.connection_string = f"{where},socket_timeout={PATIENCE},socket_connect_timeout={PATIENCE}"


def _held(at: Any, values: Mapping[str, Any] | None, names: tuple[str, ...]) -> Held | None:
    found = tuple(_plain(values[name]) if name in values else None for name in names) if values is not None else ()
    if all(value is None for value in found):  # what Redis does not hold comes as nothing from 1970
        return None
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return Held(found, None if at is None else at.timestamp())


def _plain(value: Any) -> Any:
    """Return a message of Feast as a plain value; NaN is nothing, as in training."""
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    plain = getattr(value, kind)
    if kind.endswith("_list_val"):
        return list(plain.val)
    return plain if plain == plain else None
