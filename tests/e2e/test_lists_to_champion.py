"""Do logs of requests become a champion with YAML and definitions alone, and is an answer about the whole request?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.data.training_set import SPLITS, read_raw
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from registry.evaluation import Evaluation
from registry.metrics import Requests, value_of
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel
from tests.homes import ready
from tests.hotel_search import make_hotel_search
from tests.stages import run_pipeline

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 7, tzinfo=UTC))
FEATURES = '''
"""What hotels are, and how often they were chosen so far."""
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, String
from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, source
from features.definitions.recipe import Activity, Profile, Rate

hotel = Entity(name="hotel", join_keys=["item_id"], value_type=ValueType.STRING)
ACTIVITY = Activity(key="item_id", prefix="hotel", rates=(Rate("click", prior=0.05),))
profile = FeatureView(
    name="hotel_profile", entities=[hotel], ttl=NEVER, source=source("hotel_profile", "Attributes."),
    schema=[Field(name="item_id", dtype=String), Field(name="stars", dtype=Float64), Field(name="city", dtype=String)],
)
activity = FeatureView(
    name="hotel_activity", entities=[hotel], ttl=timedelta(days=30), source=source("hotel_activity", "So far."),
    schema=[Field(name="item_id", dtype=String), *activity_fields(ACTIVITY)],
)
hotel_ranker = FeatureService(name="hotel_ranker", features=[profile, activity])
DEFINITIONS = Definitions(
    entities=(hotel,), views=(profile, activity), services=(hotel_ranker,),
    recipes={"hotel_profile": Profile(key="item_id", columns=("stars", "city")), "hotel_activity": ACTIVITY},
)
'''
PIPELINE = """
name: hotel_search
description: Which of the hotels of a search is chosen.
window: {end: "2026-01-07", days: 6}
stages:
  ingest:
    uses: ingest_table
    with:
      files: searches.csv
      explode: {columns: [impressions, prices], position: place}
      user: user
      item: impressions
      timestamp: asked_at
      request: session
      feedback: {click: reference == impressions}
      columns: {price: {type: float64, column: prices}, place: int64, device: string}
      items: {files: hotels.csv, key: hotel, columns: {stars: float64, city: string}}
  contract:
    uses: validate_data
    in: {table: ingest.events}
    with: {suite: table_events}
  features:
    uses: materialize_features
    in: {table: contract.table}
    with: {feature_service: hotel_ranker, definitions: hotel_features.py, online: false}
  dataset:
    uses: build_training_set
    in: {events: contract.table, features: features.feature_tables}
    with:
      feature_service: hotel_ranker
      definitions: hotel_features.py
      feedback: [click]
      request: request_id
      judge_by: mrr
      position: {column: place}
      context: [price, device]
      within: {price_rank: {of: price, take: rank}, price_ratio: {of: price, take: ratio}}
  train:
    uses: train_ranker
    in: {dataset: dataset.training_set}
    with: {ranker: {name: dnn}, epochs: 3}
  export:
    uses: export_onnx
    in: {ranker: train.ranker, dataset: dataset.training_set}
  evaluate:
    uses: evaluate_ranker
    in: {model: export.onnx_model, dataset: dataset.training_set}
    with: {bootstrap: 50}
  register:
    uses: register_model
    in: {model: export.onnx_model, report: evaluate.report}
    with: {model: hotel_ranker}
  promote:
    uses: promote_model
    in: {version: register.model_version, dataset: dataset.training_set}
"""
REQUESTS = 1200
Results = dict[str, StageResult]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Settings:
    return ready(tmp_path_factory.mktemp("home"), engines)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Results:
    """Each stage of the pipeline, run in this process."""
    folder = tmp_path_factory.mktemp("hotels")
    make_hotel_search(REQUESTS).write(folder)
    (folder / "hotel_features.py").write_text(FEATURES, encoding="utf-8")
    (folder / "hotel_search.yaml").write_text(PIPELINE, encoding="utf-8")
    return run_pipeline(folder / "hotel_search.yaml", settings, WINDOW)


def folder_of(settings: Settings, ref: ArtifactRef) -> Path:
    return open_store(settings).fetch(ref.load())


def test_lists_become_a_champion(done: Results) -> None:
    assert done["ingest"].notes[0].startswith(f"{len(make_hotel_search(REQUESTS).long):,} impressions")
    assert any(note.startswith("champion v1 (was none)") for note in done["promote"].notes)


def test_what_is_reported_is_the_order_of_whole_requests(done: Results, settings: Settings) -> None:
    dataset = folder_of(settings, done["dataset"].outputs["training_set"])
    held = [set(read_raw(dataset, name)["request_id"].to_pylist()) for name in SPLITS]
    assert sum(map(len, held)) == REQUESTS
    report = Evaluation.model_validate_json(
        (folder_of(settings, done["evaluate"].outputs["report"]) / "report.json").read_text()
    )
    metrics = report.cell("click").metrics
    rows = read_raw(dataset, "test")
    requests = rows["request_id"].to_numpy()
    shown = value_of("mrr", rows["click"].to_numpy(), -rows["place"].to_numpy(), requests, Requests(requests))
    ranked = metrics["mrr"].value
    assert shown is not None and ranked is not None and ranked > shown + 0.04  # better than what people were shown
    assert abs((metrics["pcoc"].value or 0) - 1) < 0.4  # answers for the first place would say several times too much


def test_an_answer_needs_the_whole_request_and_no_place(done: Results, settings: Settings) -> None:
    rows = read_raw(folder_of(settings, done["dataset"].outputs["training_set"]), "test")
    model = ServedModel.open(folder_of(settings, done["export"].outputs["onnx_model"]))
    expected = answer(model, rows).tasks["click"]
    asked = rows.drop_columns(["place", "price_rank", "price_ratio", "click"])
    assert answer(model, asked).tasks["click"].tolist() == expected.tolist()
    mixed = np.random.default_rng(0).permutation(len(rows))
    assert answer(model, asked.take(pa.array(mixed))).tasks["click"] == pytest.approx(expected[mixed], abs=1e-6)
    single = answer(model, asked.slice(0, 1)).tasks["click"]
    assert abs(single[0] - expected[0]) > 1e-6, "alone a price has nothing beside it"
