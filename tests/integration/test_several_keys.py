"""Does a feature of a user and an author go from a CSV to a training set and a served request, by YAML and definitions?

The author is no role of the pipeline: a column of the impressions, and a feature of the article.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from components.data.training_set import SPLITS, read_raw, read_schema
from components.judge.export_onnx.request import request_fields
from components.platform.errors import BadInputError
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.joins.online import asked_at
from features.joins.store import open_shared
from features.services.own_definitions import definitions_of
from pipelines.language.check import load_plan
from registry.serving.answers.retrieval import side_vectors
from tests.integration.test_shared_service import run

pytestmark = pytest.mark.engine

START = datetime(2026, 1, 2, tzinfo=UTC)
END = START + timedelta(days=3)
PIPELINE = """
name: affinities
window: {days: 3}
stages:
  ingest:
    uses: ingest_table
    with:
      files: shown.csv
      user: uid
      item: article
      timestamp: shown_at
      feedback: {click: clicked}
      columns: {author: string, hour: int64}
  features:
    uses: materialize_features
    in: {table: ingest.events}
    with: {feature_service: press, definitions: press_features.py}
  dataset:
    uses: build_training_set
    in: {events: ingest.events, features: features.feature_tables}
    with: {feature_service: press, definitions: press_features.py, feedback: [click], context: [hour]}
"""
FEATURES = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Int64, String

from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, source
from features.definitions.recipe import Activity, Profile, Rate

reader = Entity(name="reader", join_keys=["user_id"], value_type=ValueType.STRING)
article = Entity(name="article", join_keys=["item_id"], value_type=ValueType.STRING)
author = Entity(name="author", join_keys=["author"], value_type=ValueType.STRING)
hour = Entity(name="hour", join_keys=["hour"], value_type=ValueType.INT64)
CLICKS = (Rate("click", prior=0.5, weight=2),)
RECIPES = {
    "press_article": Profile(key="item_id", columns=("author",)),
    "press_liking": Activity(key=("user_id", "author"), prefix="liking", rates=CLICKS),
    "press_author": Activity(key="author", prefix="author", rates=CLICKS),
    "press_habit": Activity(key=("hour", "user_id"), prefix="habit", rates=CLICKS),
}
KEYS = {name: Field(name=name, dtype=String) for name in ("user_id", "item_id", "author")}
KEYS["hour"] = Field(name="hour", dtype=Int64)


def view(name, entities, *fields):
    keys = [KEYS[entity.join_key] for entity in entities]
    return FeatureView(name=name, entities=entities, ttl=NEVER, source=source(name, "x"), schema=[*keys, *fields])


views = (
    view("press_article", [article], KEYS["author"]),
    view("press_liking", [author, reader], *activity_fields(RECIPES["press_liking"])),
    view("press_author", [author], *activity_fields(RECIPES["press_author"])),
    view("press_habit", [reader, hour], *activity_fields(RECIPES["press_habit"])),
)
DEFINITIONS = Definitions(
    entities=(reader, article, author, hour), views=views,
    services=(FeatureService(name="press", features=[*views]),), recipes=RECIPES,
)
"""


def shown() -> list[tuple[str, str, str, int, datetime, int]]:
    """Return user, article, author (of every ninth article there is none), hour, time and click of 400 impressions."""
    rows = []
    for at in range(400):
        article = at * 7 % 36
        author = "" if article % 9 == 8 else f"w{article % 5}"
        time, click = START + timedelta(minutes=10 * at), (at * 11 % 7 + article % 5) % 2
        rows.append((f"u{at * 5 % 8}", f"a{article}", author, at % 3, time, click))
    return rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Settings]:
    folder = tmp_path_factory.mktemp("press")
    lines = [
        f"{user},{article},{time:%Y-%m-%d %H:%M:%S},{click},{author},{hour}"
        for user, article, author, hour, time, click in shown()
    ]
    (folder / "shown.csv").write_text("\n".join(["uid,article,shown_at,clicked,author,hour", *lines, ""]))
    (folder / "press_features.py").write_text(FEATURES)
    (folder / "affinities.yaml").write_text(PIPELINE)
    settings = Settings.at(folder / "home")
    done = run(load_plan(folder / "affinities.yaml"), settings, END + timedelta(hours=2))
    return folder, open_store(settings).fetch(done["dataset"].outputs["training_set"]), settings


def so_far(before: datetime, **keys: Any) -> tuple[int | None, float | None]:
    """Return impressions and smoothed rate of clicks of a combination, counted by hand."""
    names = ("user_id", "item_id", "author", "hour")
    clicks = [
        click
        for *ids, time, click in shown()
        if time < before and all(ids[names.index(k)] == v for k, v in keys.items())
    ]
    return (
        (len(clicks), (sum(clicks) + 1) / (len(clicks) + 2)) if clicks and None not in keys.values() else (None, None)
    )


def test_each_row_has_what_its_reader_and_author_had_done_together(world: Any) -> None:
    rows = [row for split in SPLITS for row in read_raw(world[1], split).to_pylist()]
    assert len(rows) == 400
    for row in rows:
        for prefix, keys in (
            ("liking", ("user_id", "author")),
            ("habit", ("user_id", "hour")),
            ("author", ("author",)),
        ):
            seen, rate = so_far(row["event_timestamp"], **{key: row[key] for key in keys})
            assert row[f"{prefix}_impressions"] == seen, row
            assert row[f"{prefix}_click_rate"] == (None if rate is None else pytest.approx(rate, rel=1e-6))
    assert any(row["author"] is None for row in rows), "whoever has no author has no liking"
    assert any((row["liking_impressions"] or 0) > 3 for row in rows)


def test_what_is_served_at_the_end_of_the_window_is_what_a_row_of_that_moment_would_see(world: Any) -> None:
    folder, _, settings = world
    asked = [
        {"user_id": user, "item_id": "a1", "author": author, "hour": hour}
        for user in ("u0", "u3", "new")
        for author in ("w0", "w4", None)
        for hour in (0, 2)
    ]
    store = open_shared(settings.feast, definitions_of(str(folder / "press_features.py")))
    with asked_at(END):
        answer = store.get_online_features(store.get_feature_service("press"), entity_rows=asked).to_dict()
    for at, row in enumerate(asked):
        for prefix, keys in (
            ("liking", ("user_id", "author")),
            ("habit", ("user_id", "hour")),
            ("author", ("author",)),
        ):
            seen, rate = so_far(END, **{key: row[key] for key in keys})
            assert answer[f"{prefix}_impressions"][at] == seen, row
            assert answer[f"{prefix}_click_rate"][at] == (None if rate is None else pytest.approx(rate, rel=1e-6))


def test_what_another_candidate_changes_is_told_apart(world: Any) -> None:
    schema = read_schema(world[1])
    assert schema.sides["author_click_rate"] == "item", "the author is known by the article"
    assert not {"liking_click_rate", "habit_click_rate"} & {*schema.sides}
    assert {*schema.pairs} == {"liking_click_rate", "liking_gap_seconds", "liking_impressions"}
    with pytest.raises(BadInputError, match="'liking_click_rate', which another item changes"):
        request_fields(schema, ["liking_click_rate"])
    assert "habit_click_rate" in request_fields(schema, ["habit_click_rate"])
    contract = SimpleNamespace(ranker="gnolr", schema_=schema, fields=schema.fields)
    with pytest.raises(BadInputError) as caught:
        side_vectors(cast("Any", SimpleNamespace(contract=contract, label="model press v1")), pa.table({}), "user")
    assert str(caught.value) == (
        "feature 'liking_click_rate' of model press v1 depends on a user and an item together, which no vector of one "
        "of them holds: rank candidates with `rankmill score`, or train with drop: [liking_click_rate, "
        "liking_gap_seconds, liking_impressions]"
    )
