"""Is the length of a history no cost on disk, and does what a training set says not depend on how its log lay?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.data.training_set import read_raw
from components.platform.artifacts import EventsTable
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from features.joins.online import asked_at
from features.joins.store import open_shared
from features.services.own_definitions import definitions_of

pytestmark = pytest.mark.engine

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=30))
DEFINITIONS = """
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Array, Int64

from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, listed_field, source, times_field
from features.definitions.recipe import Activity, History

VIEWER = Entity(name="viewer", join_keys=["user_id"], value_type=ValueType.INT64)
RECIPE = Activity(
    key="user_id", prefix="viewer",
    history=History({"seen": "item_id", "seen_at": "event_timestamp"}, length=10_000),
)
VIEW = FeatureView(
    name="viewer", entities=[VIEWER], ttl=NEVER, source=source("viewer", "x"),
    schema=[
        Field(name="user_id", dtype=Int64), *activity_fields(RECIPE),
        listed_field("seen", LENGTH, "seen_at", shares="item_id", auxiliary=False), times_field("seen_at", LENGTH),
    ],
)
SERVICE = FeatureService(name="long", features=[VIEW])
DEFINITIONS = Definitions(entities=(VIEWER,), views=(VIEW,), services=(SERVICE,), recipes={"viewer": RECIPE})
"""


def log(rows: int = 6000, shift: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    times = START + pl.Series(np.sort(rng.integers(0, 29 * 86_400, rows))) * timedelta(seconds=1)
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, 4, rows),
            "item_id": rng.integers(0, 500, rows) + shift,
            "event_timestamp": times,
            "created_timestamp": times,
            "click": rng.integers(0, 2, rows).astype(np.int8),
        }
    ).with_columns(pl.col("event_timestamp", "created_timestamp").cast(pl.Datetime("us", "UTC")))


def publish(settings: Settings, events: pl.DataFrame, key: str) -> ArtifactRef:
    staged = settings.home / "staged" / key
    (staged / "events").mkdir(parents=True)
    events.write_parquet(staged / "events" / "events.parquet")
    return open_store(settings).publish(
        staged,
        {"events": EventsTable(uri="")},
        component="test_events", component_version="1", key=key * 32, config_digest="", inputs={}, explanation={},
        seconds=0.0, notes=[], annotations={},
    ).outputs["events"]  # fmt: skip


def features(settings: Settings, events: ArtifactRef, file: Path, online: bool = False) -> StageResult:
    config = {"feature_service": "long", "definitions": str(file), "online": online}
    request = StageRequest(component="materialize_features", config=config, inputs={"table": events}, window=WINDOW)
    return execute(request, settings)


def dataset(settings: Settings, events: ArtifactRef, made: StageResult, file: Path, length: int | None) -> StageResult:
    config = {"feature_service": "long", "definitions": str(file), "feedback": ["click"], "include": ["seen_at"]}
    if length:
        config["encode"] = {"seen": {"length": length, "shares": "item_id"}}
    inputs = {"events": events, "features": made.outputs["feature_tables"]}
    return execute(StageRequest(component="build_training_set", config=config, inputs=inputs, window=WINDOW), settings)


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def defined(folder: Path, length: int) -> Path:
    file = folder / f"long_{length}.py"
    file.write_text(DEFINITIONS.replace("LENGTH", str(length)), encoding="utf-8")
    return file


def test_length_costs_no_space_and_the_order_of_the_log_changes_nothing(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    events = publish(settings, log(), "a")
    sizes, digests = {}, []
    for length in (50, 1000):
        file = defined(tmp_path, length)
        made = features(settings, events, file)
        done = dataset(settings, events, made, file, None)
        folder = open_store(settings).fetch(done.outputs["training_set"].load())
        tables = open_store(settings).fetch(made.outputs["feature_tables"].load())
        sizes[length] = (size(tables), size(folder / "raw"), size(folder))
        rows = read_raw(folder, "test", ["seen", "viewer_impressions"])
        assert max(map(len, rows["seen"].to_pylist())) == length
    assert all(long <= 1.2 * short for long, short in zip(sizes[1000], sizes[50], strict=True))
    shuffled = publish(settings, log().sample(fraction=1.0, shuffle=True, seed=1), "b")
    again = dataset(settings, shuffled, features(settings, shuffled, file), file, None)
    digests = [result.outputs["training_set"].digest for result in (done, again)]
    assert not again.cached and digests[0] == digests[1]


def test_more_events_than_the_view_keeps_are_refused(tmp_path: Path) -> None:
    settings, file = Settings.at(tmp_path), defined(tmp_path, 50)
    events = publish(settings, log(600), "a")
    with pytest.raises(BadInputError, match=r"'seen' reads 51 events, and feature view 'viewer' keeps 50 for training"):
        dataset(settings, events, features(settings, events, file), file, 51)


def test_other_events_behind_the_same_references_go_online(tmp_path: Path) -> None:
    """The table is equal byte for byte, only what it refers to is not."""
    settings, file = Settings.at(tmp_path), defined(tmp_path, 50)
    held = []
    for key, shift in (("a", 0), ("b", 1000)):
        features(settings, publish(settings, log(600, shift), key), file, online=True)
        shared = open_shared(settings.feast, definitions_of(str(file)))
        with asked_at(WINDOW.end):
            answer = shared.get_online_features(["viewer:seen"], entity_rows=[{"user_id": 1}]).to_dict()
        held.append(answer["seen"][0])
    assert held[1] == [item + 1000 for item in held[0]]
