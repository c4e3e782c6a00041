"""Do two pipelines with one feature service leave each other's training alone, and the online store right?"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.platform.execute import StageResult
from components.platform.settings import Settings
from features.joins.online import asked_at
from features.joins.store import open_shared
from features.services.own_definitions import definitions_of
from pipelines.language.check import load_plan
from pipelines.language.plan import Plan, Selection, select
from pipelines.run.predict import predict
from pipelines.run.task import Attempt, run_stage
from tests.training_here import training_here

pytestmark = pytest.mark.engine

DAY = datetime(2026, 1, 5, 2, tzinfo=UTC)
PIPELINE = """
name: {name}
window: {{days: 3}}
stages:
  ingest:
    uses: ingest_table
    with:
      files: {name}.csv
      user: uid
      item: article
      timestamp: shown_at
      feedback: {{click: clicked}}
      columns: {{taste: string, city: string}}
  features:
    uses: materialize_features
    in: {{table: ingest.events}}
    with: {{feature_service: shop, definitions: shop_features.py}}
  dataset:
    uses: build_training_set
    in: {{events: ingest.events, features: features.feature_tables}}
    with: {{feature_service: shop, definitions: shop_features.py, feedback: [click]}}
  train:
    uses: train_ranker
    in: {{dataset: dataset.training_set}}
    with: {{ranker: {{name: lr}}, epochs: 1}}
"""
FEATURES = """
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import String

from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile

shopper = Entity(name="shopper", join_keys=["user_id"], value_type=ValueType.STRING)
names = ("taste", "city")
views = {
    name: FeatureView(
        name=f"shopper_{name}", entities=[shopper], ttl=NEVER, source=source(f"shopper_{name}", "Shoppers."),
        schema=[Field(name="user_id", dtype=String), Field(name=name, dtype=String)],
    )
    for name in names
}
DEFINITIONS = Definitions(
    entities=(shopper,),
    views=tuple(views.values()),
    services=(
        FeatureService(name="shop", features=[*views.values()]),
        FeatureService(name="tastes", features=[views["taste"]]),
    ),
    recipes={f"shopper_{name}": Profile(key="user_id", columns=(name,)) for name in names},
)
"""


def write_pipeline(folder: Path, name: str, taste: str, days: int = 0, service: str = "shop") -> Plan:
    """Write a pipeline whose shoppers all have one taste, over three days that end `days` before the last one."""
    draw = random.Random(7)
    lines = ["uid,article,shown_at,clicked,taste,city"]
    for _ in range(300):
        shown = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(days=days, seconds=draw.randrange(3 * 86_400))
        lines.append(
            f"u{draw.randrange(9)},a{draw.randrange(9)},{shown:%Y-%m-%d %H:%M:%S},{draw.randrange(2)},{taste},x"
        )
    (folder / f"{name}.csv").write_text("\n".join([*lines, ""]))
    (folder / "shop_features.py").write_text(FEATURES)
    (folder / f"{name}.yaml").write_text(PIPELINE.format(name=name).replace("service: shop,", f"service: {service},"))
    return load_plan(folder / f"{name}.yaml")


def run(plan: Plan, settings: Settings, moment: datetime = DAY) -> dict[str, StageResult]:
    """Run the stages as tasks would, in this process."""
    done: dict[str, StageResult] = {}
    with training_here():
        for stage in plan.stages:
            done[stage.name] = run_stage(Attempt(plan, stage, f"{plan.name}-of-the-day", {}, moment, done), settings)
    return done


def online_taste(folder: Path, settings: Settings) -> Any:
    with asked_at(DAY):
        store = open_shared(settings.feast, definitions_of(str(folder / "shop_features.py")))
        answer = store.get_online_features(["shopper_taste:taste"], [{"user_id": "u1"}]).to_dict()
    return answer["taste"][0]


def test_another_pipeline_with_the_same_service_takes_no_training_away(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    one, two = (write_pipeline(tmp_path, name, taste) for name, taste in (("one", "books"), ("two", "music")))
    first = run(one, settings)
    assert online_taste(tmp_path, settings) == "books"
    run(two, settings)
    assert online_taste(tmp_path, settings) == "music"

    assert {p.stage: p.state for p in predict(one, {}, DAY, settings).predictions} == dict.fromkeys(first, "hit")
    part = predict(select(one, Selection("from", "train")), {}, DAY, settings)
    assert "missing" not in {p.state for p in part.predictions}
    run(select(one, Selection("from", "train")), settings)
    assert online_taste(tmp_path, settings) == "music", "who trains only leaves the online store alone"

    again = run(one, settings)
    assert {name: result.cached for name, result in again.items()} == dict.fromkeys(first, True)
    assert online_taste(tmp_path, settings) == "books", "but its own run makes the online store its own again"
    assert again["features"].notes[-1] == "online store holds shopper_city, shopper_taste as of 2026-01-05 00:00 UTC"


def test_a_view_that_another_service_overwrote_is_written_again(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    one = write_pipeline(tmp_path, "one", "books")
    two = write_pipeline(tmp_path, "two", "music", service="tastes")
    plans = [replace(plan, stages=plan.stages[:2]) for plan in (one, two)]
    for plan, taste in ((plans[0], "books"), (plans[1], "music"), (plans[0], "books")):
        run(plan, settings)
        assert online_taste(tmp_path, settings) == taste


def test_a_later_window_of_the_other_pipeline_stays_and_the_run_says_so(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    one, two = write_pipeline(tmp_path, "one", "books"), write_pipeline(tmp_path, "two", "music", days=1)
    plans = [replace(plan, stages=plan.stages[:2]) for plan in (one, two)]
    run(plans[0], settings)
    run(plans[1], settings, DAY + timedelta(days=1))
    again = run(plans[0], settings)
    assert again["features"].cached and "left alone: it holds values of a later window" in again["features"].notes[-1]
    assert online_taste(tmp_path, settings) == "music"
