"""A service of a small shop: a real model, an online store in memory, and a registry that points where a test says."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from features.ground.errors import MissingError
from features.joins.online_read import Held, Key
from features.services.served import ServedColumn, ServedFeatures
from registry.serving.live.counters import Counters
from registry.serving.live.follow import Follower
from registry.serving.live.kept import ItemCache
from registry.serving.live.lookup import Lookup
from registry.serving.live.version import Live, open_live
from registry.serving.log.served_log import ServedLog
from registry.serving.server.app import Service, make_app
from registry.serving.trial.canary import CanaryRoute
from registry.serving.trial.challenger import Beside, Challenger
from registry.serving.trial.shadow import ShadowThread
from registry.serving.wire.config import ServingConfig
from registry.serving.wire.pointed import Pointed
from registry.serving.wire.protocol import Question, Tensor, question_body
from tests.asking import until
from tests.worlds import DTYPES, SIDES

URL = "/v2/models/shop/infer"
BASE = "http://127.0.0.1:8500"
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
    gate: threading.Event | None = None
    """What reads wait for."""

    def read(self, view: str, keys: Sequence[Key], names: Sequence[str]) -> list[Held | None]:
        self.reads.append((view, tuple(keys), tuple(names)))
        if self.gate is not None:
            self.gate.wait(30)
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
    alias: str = "champion"

    def pointed(self) -> Pointed:
        if self.down:
            raise OSError("MLflow does not answer")
        if not self.version:
            raise MissingError(f"model 'shop' has no alias {self.alias!r}")
        return Pointed(version=self.version, digest=f"digest{self.version}")

    def open(self, pointed: Pointed) -> Live:
        folder = self.folders[pointed.version]
        if self.features is not None:
            (folder / "features.json").write_text(self.features.model_dump_json())
        return open_live("shop", self.alias, pointed, folder, None, "cpu")

    def with_memory(self, live: Live, pointed: Pointed) -> Live:
        return live.with_memory(None, pointed.memory)

    def with_bandit(self, live: Live, pointed: Pointed) -> Live:
        return live.with_bandit(None, pointed.bandit)

    def last(self) -> Pointed | None:
        return self.remembered

    def remember(self, pointed: Pointed) -> None:
        self.remembered = pointed


def looking(shelves: Shelves | None) -> Lookup | None:
    """Return how a service asks a store, if there is one."""
    return Lookup(lambda: shelves, cache=ItemCache(1000, 60), timeout=30) if shelves is not None else None


def service(
    registry: Registry,
    shelves: Shelves | None,
    token: str | None = None,
    *,
    log: ServedLog | None = None,
    beside: tuple[Registry, Shelves | None] | None = None,
    **changes: Any,
) -> Service:
    """Return a service of the shop; `beside` says where a challenger comes from and which store it asks."""
    limits = {"timeout": "30s"} | changes.pop("limits", {})  # a busy machine is no reason to refuse
    config = ServingConfig.model_validate({"name": "shop", "model": "shop", "limits": limits, **changes})
    counters = Counters.make()
    shadow, canary = None, None
    if beside is not None:
        follower = Follower(beside[0], 0.05, Beside(counters), optional=True)
        challenger = Challenger(follower, looking(beside[1]))
        if config.shadow is not None:
            assert log is not None
            shadow = ShadowThread(challenger, config.shadow, config, log.take, counters)
        if config.canary is not None:
            canary = CanaryRoute(challenger, config.canary, config.name, counters)
    return Service(
        config=config,
        follower=Follower(registry, 0.05, counters),
        lookup=looking(shelves),
        counters=counters,
        token=token,
        log=log,
        shadow=shadow,
        canary=canary,
        version="1",
    )


def running(served_by: Service) -> TestClient:
    return TestClient(make_app(served_by), base_url=BASE, raise_server_exceptions=False)


def ready(client: TestClient) -> None:
    until(lambda: client.get("/v2/health/ready").status_code == 200)


def question(user: int = 7, items: tuple[int, ...] = (3, 1, 2), **more: Any) -> Question:
    return Question(
        {
            "user_id": Tensor("user_id", "INT64", (1,), (user,)),
            "item_id": Tensor("item_id", "INT64", (len(items),), items),
            "age_band": Tensor("age_band", "BYTES", (1,), ("35_plus",)),
            "event_timestamp": Tensor("event_timestamp", "BYTES", (1,), ("2024-02-01T12:00:00Z",)),
        },
        **more,
    )


def ask(client: TestClient, asked: Question | None = None, **options: Any) -> Any:
    return client.post(URL, content=question_body(asked or question()), **options)


def counts(client: TestClient) -> dict[str, float]:
    """Return every number of the page by its name; tests that ran in this process before may have counted too."""
    lines = (line.rpartition(" ") for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
