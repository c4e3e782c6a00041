"""Does data without a time, an experiment with one mailing per customer, become a champion with YAML alone?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.platform.store.publish import open_store
from features.declaration import Window
from registry.evaluation import Evaluation
from tests.homes import ready, shared_data
from tests.stages import run_pipeline
from tests.training_here import training_here

pytestmark = pytest.mark.engine

FEATURES = '''
"""What customers are."""
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int64, String
from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile

customer = Entity(name="customer", join_keys=["user_id"], value_type=ValueType.STRING)
profile = FeatureView(
    name="customer_profile", entities=[customer], ttl=NEVER, source=source("customer_profile", "Attributes."),
    schema=[
        Field(name="user_id", dtype=String), Field(name="history", dtype=Float64),
        Field(name="recency", dtype=Int64), Field(name="channel", dtype=String),
    ],
)
mailing_ranker = FeatureService(name="mailing_ranker", features=[profile])
DEFINITIONS = Definitions(
    entities=(customer,), views=(profile,), services=(mailing_ranker,),
    recipes={"customer_profile": Profile(key="user_id", columns=("history", "recency", "channel"))},
)
'''
PIPELINE = """
name: mailings
description: Which mailing brings a customer to the shop.
window: {end: "2026-01-07", days: 1}
stages:
  ingest:
    uses: ingest_table
    with:
      files: FILE
      user: {columns: [recency, history, mens, womens, zip_code, newbie, channel]}
      item: segment
      timestamp: none
      duplicates: keep
      feedback: {visit: visit, conversion: conversion}
      columns: {recency: int64, history: float64, mens: int64, womens: int64,
                zip_code: string, newbie: int64, channel: string}
  contract:
    uses: validate_data
    in: {table: ingest.events}
    with: {suite: table_events}
  features:
    uses: materialize_features
    in: {table: contract.table}
    with: {feature_service: mailing_ranker, definitions: mailing_features.py, online: false}
  dataset:
    uses: build_training_set
    in: {events: contract.table, features: features.feature_tables}
    with:
      feature_service: mailing_ranker
      definitions: mailing_features.py
      feedback: [visit, conversion]
      context: [mens, womens, zip_code, newbie]
      drop: [user_id]
      split: {by: random}
  train:
    uses: train_ranker
    in: {dataset: dataset.training_set}
    with: {ranker: {name: dnn}, epochs: 1}
  export:
    uses: export_onnx
    in: {ranker: train.ranker, dataset: dataset.training_set}
  evaluate:
    uses: evaluate_ranker
    in: {model: export.onnx_model, dataset: dataset.training_set}
    with: {bootstrap: 20}
  register:
    uses: register_model
    in: {model: export.onnx_model, report: evaluate.report}
    with: {model: mailing_ranker}
  promote:
    uses: promote_model
    in: {version: register.model_version, dataset: dataset.training_set}
"""
WINDOW = Window(start=datetime(2026, 1, 6, tzinfo=UTC), end=datetime(2026, 1, 7, tzinfo=UTC))


def test_an_experiment_without_time_becomes_a_champion(tmp_path: Path, engines: Path) -> None:
    file = shared_data("hillstrom") / "hillstrom" / "hillstrom.csv"
    settings = ready(tmp_path / "home", engines)
    (tmp_path / "mailing_features.py").write_text(FEATURES, encoding="utf-8")
    (tmp_path / "mailings.yaml").write_text(PIPELINE.replace("FILE", str(file)), encoding="utf-8")
    with training_here():
        done = run_pipeline(tmp_path / "mailings.yaml", settings, WINDOW)
    assert done["ingest"].notes[0].startswith("64,000 impressions")
    assert any(note.startswith("champion v1 (was none)") for note in done["promote"].notes)
    report = open_store(settings).fetch(done["evaluate"].outputs["report"].load())
    found = Evaluation.model_validate_json((report / "report.json").read_text()).cell("visit").metrics["auc"].value
    assert found is not None and found > 0.57
