"""A service of a small shop: a real model, an online store in memory, and a registry that points where a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from features.joins.online_read import Held, Key
from features.services.served import ServedColumn, ServedFeatures
from registry.serving.server.app import Service
from registry.serving.server.config import ServingConfig
from registry.serving.server.counters import Counters
from registry.serving.server.follow import Follower
from registry.serving.server.live import Live, Pointed, open_live
from registry.serving.server.lookup import ItemCache, Lookup
from tests.worlds import DTYPES, SIDES

NOW = datetime(2024, 2, 1, 12, tzinfo=UTC)
LIFE = 10
"""Days that features of users live."""


def served() -> ServedFeatures:
    """Return where the columns of the world of `tests.worlds` come from: two views, and what a request tells."""
    views = {"user": ("shopper", "user_id", LIFE), "item": ("goods", "item_id", 0)}
    columns = []
    for name, dtype in DTYPES.items():
        side = SIDES.get(name)
        if name in ("user_id", "item_id") or side is None:
            columns.append(ServedColumn(name=name, dtype=dtype))
        else:
            view, key, life = views[side]
            columns.append(ServedColumn(name=name, dtype=dtype, view=view, keys=(key,), ttl_days=life))
    columns.append(ServedColumn(name="event_timestamp", dtype="unix_timestamp"))
    return ServedFeatures(
        service="shop", definitions="d", columns=tuple(sorted(columns, key=lambda column: column.name))
    )


@dataclass
class Shelves:
    """An online store in memory: views by key."""

    views: dict[str, dict[Key, tuple[dict[str, Any], float]]] = field(default_factory=dict)
    reads: list[tuple[str, tuple[Key, ...], tuple[str, ...]]] = field(default_factory=list)
    broken: bool = False

    def read(self, view: str, keys: Sequence[Key], names: Sequence[str]) -> list[Held | None]:
        self.reads.append((view, tuple(keys), tuple(names)))
        if self.broken:
            raise OSError("the store is gone")
        found = []
        for key in keys:
            held = self.views.get(view, {}).get(key)
            found.append(Held(tuple(held[0].get(name) for name in names), held[1]) if held else None)
        return found

    def put(self, view: str, key: Any, values: Mapping[str, Any], at: datetime = NOW) -> None:
        self.views.setdefault(view, {})[key,] = (dict(values), at.timestamp())


def stocked() -> Shelves:
    """Return a store that knows two users, one of them for too long, and three items."""
    shelves = Shelves()
    events = [int((NOW - timedelta(days=day)).timestamp()) * 1_000_000 for day in (1, 2)]
    user = {"recent_items": [3, 5], "recent_likes": [1, 0], "recent_times": events, "taste": [0.1, 0.2, 0.3]}
    shelves.put("shopper", 7, user, NOW - timedelta(days=1))
    shelves.put("shopper", 8, user, NOW - timedelta(days=LIFE, seconds=1))
    for item in (1, 2, 3):
        shelves.put("goods", item, {"genres": ["drama"][: item % 2], "popularity": float(item)})
    return shelves


@dataclass
class Registry:
    """Points at a version of one of several folders."""

    folders: Mapping[int, Path]
    version: int
    features: ServedFeatures | None
    down: bool = False
    remembered: Pointed | None = None

    def pointed(self) -> Pointed:
        if self.down:
            raise OSError("MLflow does not answer")
        return Pointed(version=self.version, digest=f"digest{self.version}")

    def open(self, pointed: Pointed) -> Live:
        folder = self.folders[pointed.version]
        if self.features is not None:
            (folder / "features.json").write_text(self.features.model_dump_json())
        return open_live("shop", "champion", pointed, folder, None, "cpu")

    def with_memory(self, live: Live, pointed: Pointed) -> Live:
        return live.with_memory(None, pointed.memory)

    def last(self) -> Pointed | None:
        return self.remembered

    def remember(self, pointed: Pointed) -> None:
        self.remembered = pointed


def service(registry: Registry, shelves: Shelves | None, token: str | None = None, **changes: Any) -> Service:
    """Return a service of the shop."""
    limits = {"timeout": "30s"} | changes.pop("limits", {})  # a busy machine is no reason to refuse
    config = ServingConfig.model_validate({"name": "shop", "model": "shop", "limits": limits, **changes})
    counters = Counters.make()
    lookup = None
    if shelves is not None:
        lookup = Lookup(lambda: shelves, cache=ItemCache(1000, 60), timeout=5)
    follower = Follower(registry, 0.05, counters)
    return Service(config=config, follower=follower, lookup=lookup, counters=counters, token=token, version="1")
