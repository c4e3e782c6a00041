"""Do vectors of a file reach a ranker's input as they are, through every stage and with features of one's own?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import polars as pl
import pytest

from components.data.training_set import SPLITS, read_encoded, read_raw, read_schema
from components.platform.execute import StageResult
from components.platform.settings import Settings
from pipelines.language.check import load_plan
from pipelines.run.task import Attempt, run_stage

pytestmark = pytest.mark.engine

PIPELINE = """
name: hotels
window: {days: 3}
stages:
  ingest:
    uses: ingest_table
    with:
      files: events.csv
      user: uid
      item: hotel
      timestamp: shown_at
      feedback: {click: clicked}
      columns: {taste: {type: array<float64>, length: 2}}
      items: {files: items.parquet, key: hotel, columns: {image: {type: array<float32>, length: 3}}}
  features:
    uses: materialize_features
    in: {table: ingest.events}
    with: {feature_service: hotels, definitions: hotel_features.py}
  dataset:
    uses: build_training_set
    in: {events: ingest.events, features: features.feature_tables}
    with:
      feature_service: hotels
      definitions: hotel_features.py
      feedback: [click]
      context: [taste]
      encode: {image: {length: 3}, taste: {length: 2}}
"""
FEATURES = """
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Array, Float32, String

from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile

hotel = Entity(name="hotel", join_keys=["item_id"], value_type=ValueType.STRING)
look = FeatureView(
    name="hotel_look", entities=[hotel], ttl=NEVER, source=source("hotel_look", "Hotels."),
    schema=[Field(name="item_id", dtype=String), Field(name="image", dtype=Array(Float32))],
)
DEFINITIONS = Definitions(
    entities=(hotel,), views=(look,), services=(FeatureService(name="hotels", features=[look]),),
    recipes={"hotel_look": Profile(key="item_id", columns=("image",))},
)
"""


def test_vectors_are_inputs_as_the_file_has_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    images = draw.normal(size=(9, 3)).astype(np.float32)
    files = pl.Series(
        [None if n == 8 else image.tolist() for n, image in enumerate(images)], dtype=pl.Array(pl.Float32, 3)
    )
    pl.DataFrame({"hotel": [f"h{n}" for n in range(9)], "image": files}).write_parquet(tmp_path / "items.parquet")
    tastes = draw.normal(size=(300, 2)).round(2)
    rows = ["uid,hotel,shown_at,clicked,taste"]
    for n, (one, two) in enumerate(tastes):
        shown = f"2026-01-0{2 + n // 100} {n % 100 // 60:02d}:{n % 60:02d}:00"
        rows.append(f"u{n % 7},h{draw.integers(9)},{shown},{draw.integers(2)},{one}|{two}")
    (tmp_path / "events.csv").write_text("\n".join([*rows, ""]))
    (tmp_path / "hotel_features.py").write_text(FEATURES)
    (tmp_path / "hotels.yaml").write_text(PIPELINE)
    plan, settings = load_plan(tmp_path / "hotels.yaml"), Settings.at(tmp_path / "home")
    done: dict[str, StageResult] = {}
    for stage in plan.stages:
        attempt = Attempt(plan, stage, "once", {}, datetime(2026, 1, 5, 2, tzinfo=UTC), done)
        done[stage.name] = run_stage(attempt, settings)

    found = Path(urlparse(done["dataset"].outputs["training_set"].uri).path)
    schema, seen = read_schema(found), 0
    for split in SPLITS:
        raw, made = read_raw(found, split), read_encoded(found, split, schema).features
        hotels = [int(hotel.removeprefix("h")) for hotel in raw["item_id"].to_pylist()]
        # Later days know the hotels of the first alone.
        later = np.asarray([bool(image) for image in raw["image"].to_pylist()])
        np.testing.assert_array_equal(made["image"][later], images[hotels][later])
        assert not made["image"][~later].any()
        np.testing.assert_allclose(made["taste"], np.asarray(raw["taste"].to_pylist()), rtol=1e-6)
        seen += int(later.sum())
    assert seen > 200
