"""Does a further log reach the ranker's rows through a recipe, with what was known before each and no more?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlparse

import polars as pl
import pytest

from components.data.training_set import SPLITS, read_raw
from components.platform.execute import StageResult
from components.platform.settings import Settings
from pipelines.language.check import load_plan
from pipelines.run.task import Attempt, run_stage

pytestmark = pytest.mark.engine

PIPELINE = """
name: shop
window: {days: 3}
stages:
  ingest:
    uses: ingest_table
    with:
      files: events.csv
      user: uid
      item: article
      timestamp: shown_at
      feedback: {click: clicked}
      logs:
        buys:
          files: buys.csv
          user: customer
          timestamp: paid_at
          created: stored_at
          columns: {price: float64, cheap: {type: int64, rule: price < 10}}
  features:
    uses: materialize_features
    in: {table: ingest.events}
    with: {feature_service: shop, definitions: shop_features.py}
  dataset:
    uses: build_training_set
    in: {events: ingest.events, features: features.feature_tables}
    with:
      feature_service: shop
      definitions: shop_features.py
      feedback: [click]
      carry: [user_id]
"""
FEATURES = """
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float32, Int64, String

from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Activity, Rate

user = Entity(name="buyer", join_keys=["user_id"], value_type=ValueType.STRING)
bought = FeatureView(
    name="user_buys", entities=[user], ttl=NEVER, source=source("user_buys", "What users bought."),
    schema=[
        Field(name="user_id", dtype=String),
        Field(name="user_buys", dtype=Int64),
        Field(name="user_cheap_rate", dtype=Float32),
    ],
)
DEFINITIONS = Definitions(
    entities=(user,), views=(bought,), services=(FeatureService(name="shop", features=[bought]),),
    recipes={"user_buys": Activity(
        key="user_id", prefix="user", log="buys", rates=(Rate("cheap", prior=0.5, weight=2),)
    )},
)
"""
BUYS = (
    ("u0", "2026-01-02 00:30", "2026-01-02 00:31", 5),
    ("u0", "2026-01-03 00:30", "2026-01-03 00:31", 50),
    ("u1", "2026-01-02 00:30", "2026-01-04 00:10", 5),  # stored two days later
    ("u2", "2026-01-09 00:00", "2026-01-09 00:00", 5),  # beyond the window
)


def test_a_log_reaches_the_rows_with_what_was_known(tmp_path: Path) -> None:
    rows = ["uid,article,shown_at,clicked"]
    for n in range(270):
        rows.append(f"u{n % 3},a{n % 7},2026-01-0{2 + n // 90} {n % 90 // 60:02d}:{n % 60:02d}:30,{n % 2}")
    (tmp_path / "events.csv").write_text("\n".join([*rows, ""]))
    buys = ["customer,paid_at,stored_at,price", *(",".join(map(str, row)) for row in BUYS), ""]
    (tmp_path / "buys.csv").write_text("\n".join(buys))
    (tmp_path / "shop_features.py").write_text(FEATURES)
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    plan, settings = load_plan(tmp_path / "shop.yaml"), Settings.at(tmp_path / "home")
    done: dict[str, StageResult] = {}
    for stage in plan.stages:
        attempt = Attempt(plan, stage, "once", {}, datetime(2026, 1, 5, 2, tzinfo=UTC), done)
        done[stage.name] = run_stage(attempt, settings)
    assert "log 'buys': 3 rows of 2 users" in done["ingest"].notes
    assert "log 'buys': 1 rows outside the window left out" in done["ingest"].notes

    found = Path(urlparse(done["dataset"].outputs["training_set"].uri).path)
    table = pl.concat([pl.DataFrame(read_raw(found, split)) for split in SPLITS])
    assert len(table) == 270
    for user, at, count in table.select("user_id", "event_timestamp", "user_buys").iter_rows():
        known = [row for row in BUYS if row[0] == user and max(row[1:3]) < f"{at:%Y-%m-%d %H:%M:%S}"]
        assert (count or 0) == len(known), (user, at)
    last = table.filter(pl.col("user_id") == "u0").sort("event_timestamp")["user_cheap_rate"][-1]
    assert last == pytest.approx((1 + 0.5 * 2) / (2 + 2))
