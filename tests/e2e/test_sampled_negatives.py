"""Does a log of purchases alone become a ranker whose scores are true rates, with the weights of drawn negatives?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel
from tests.homes import ready
from tests.stages import run_pipeline
from tests.training_here import training_here

pytestmark = pytest.mark.engine

ITEMS, BUYS = 12, 6000
FEATURES = '''
"""What articles are."""
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, String
from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile

article = Entity(name="article", join_keys=["item_id"], value_type=ValueType.STRING)
profile = FeatureView(
    name="article_profile", entities=[article], ttl=NEVER, source=source("article_profile", "Attributes."),
    schema=[Field(name="item_id", dtype=String), Field(name="price", dtype=Float64)],
)
buy_ranker = FeatureService(name="buy_ranker", features=[profile])
DEFINITIONS = Definitions(
    entities=(article,), views=(profile,), services=(buy_ranker,),
    recipes={"article_profile": Profile(key="item_id", columns=("price",))},
)
'''
PIPELINE = """
name: buys
description: Who buys what, from purchases alone.
window: {end: "2026-01-05", days: 3}
stages:
  ingest:
    uses: ingest_table
    with:
      files: buys.csv
      user: customer
      item: article
      timestamp: paid_at
      feedback: {buy: amount > 0}
      columns: {group: string, price: float64}
  negatives:
    uses: sample_negatives
    in: {events: ingest.events}
    with: {feedback: [buy], item_columns: [price], per_positive: 3, alpha: 0.5}
  features:
    uses: materialize_features
    in: {table: ingest.events}
    with: {feature_service: buy_ranker, definitions: buy_features.py, online: false}
  weighted:
    uses: build_training_set
    in: {events: negatives.events, features: features.feature_tables}
    with:
      feature_service: buy_ranker
      definitions: buy_features.py
      feedback: [buy]
      context: [group]
      drop: [user_id]
      split: {by: random}
      weights: {buy: {column: sampling_weight}}
  train:
    uses: train_ranker
    in: {dataset: weighted.training_set}
    with: {ranker: {name: dnn}, epochs: 6, learning_rate: 0.003}
  export:
    uses: export_onnx
    in: {ranker: train.ranker, dataset: weighted.training_set}
"""
WINDOW = Window(start=datetime(2026, 1, 2, tzinfo=UTC), end=datetime(2026, 1, 5, tzinfo=UTC))


@pytest.fixture(scope="module")
def taste() -> np.ndarray:
    """Return how probably a customer of each of two groups buys each article."""
    return np.random.default_rng(5).dirichlet(np.full(ITEMS, 2.0), size=2)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_score_is_the_true_rate(tmp_path: Path, engines: Path, taste: np.ndarray, weighted: bool) -> None:
    settings, draw = ready(tmp_path / "home", engines), np.random.default_rng(6)
    rows = ["customer,article,paid_at,amount,group,price"]
    for n in range(BUYS):
        group = draw.integers(2)
        item = draw.choice(ITEMS, p=taste[group])
        at = WINDOW.start + timedelta(seconds=40 * n)
        rows.append(f"c{n},a{item},{at:%Y-%m-%d %H:%M:%S},1,g{group},{item + 0.5}")
    (tmp_path / "buys.csv").write_text("\n".join([*rows, ""]))
    (tmp_path / "buy_features.py").write_text(FEATURES, encoding="utf-8")
    text = PIPELINE if weighted else PIPELINE.replace("      weights: {buy: {column: sampling_weight}}\n", "")
    (tmp_path / "buys.yaml").write_text(text, encoding="utf-8")
    model = ServedModel.open(exported(tmp_path / "buys.yaml", settings))
    pairs = [(group, item) for group in range(2) for item in range(ITEMS)]
    asked = pa.table(
        {
            "item_id": [f"a{item}" for _, item in pairs],
            "group": [f"g{group}" for group, _ in pairs],
            "price": [item + 0.5 for _, item in pairs],
        }
    )
    scores = answer(model, asked).tasks["buy"].reshape(2, ITEMS)
    # Each customer buys one article, so that the rates of a group are 1 together.
    if weighted:
        assert scores.sum(axis=1) == pytest.approx([1, 1], abs=0.1)
        assert np.abs(scores - taste).mean() < 0.03  # the rates are .08 on average
    else:
        assert (scores.sum(axis=1) > 2).all()


def exported(pipeline: Path, settings: Settings) -> Path:
    with training_here():
        done = run_pipeline(pipeline, settings, WINDOW)
    return open_store(settings).fetch(done["export"].outputs["onnx_model"].load())
