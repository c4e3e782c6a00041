"""How much memory does a data stage take as its window grows, and how long?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Goal, Report, Series
from tests.benchmarks.judge_stages import JUDGES, judged, prepared
from tests.benchmarks.lab import Lab

EACH = 40
"""Impressions of a user."""
DAYS, START = 30, datetime(2026, 1, 1, tzinfo=UTC)
STAGES = ("ingest", "contract", "features", "dataset")
SIZES = (1_000_000, 4_000_000, 16_000_000)
LIMITS = {4_000_000: 1.5 * 1024, 16_000_000: 3.0 * 1024}
"""MiB of the whole process, by rows."""
LIMIT_SECONDS = 3600
JUDGED = (
    "Stages that judge have a `dnn` that nobody trained, and intervals of 20 resamples: `calibrate` scores the "
    "validation and the test split, a tenth of the rows each, `evaluate` the test split, `gate` the same with two "
    "models, `memory` replays both splits. They score a block of rows after the other, and keep labels, users, "
    "domains and answers."
)
PIPELINE = """
name: stage_memory
window: {{end: "{end:%Y-%m-%d}", days: {days}}}
stages:
  ingest:
    uses: ingest_table
    with:
      files: log.parquet
      user: user
      item: item
      timestamp: at
      columns: {{brand: string, price: float64}}
      feedback: {{click: click}}
  contract:
    uses: validate_data
    in: {{table: ingest.events}}
    with: {{suite: table_events}}
  features:
    uses: materialize_features
    in: {{table: contract.table}}
    with: {{feature_service: shop, definitions: shop.py, online: false}}
  dataset:
    uses: build_training_set
    in: {{events: contract.table, features: features.feature_tables}}
    with:
      feature_service: shop
      definitions: shop.py
      feedback: [click]
      split: {{by: time, train: 0.8, validation: 0.1, test: 0.1}}
"""
DEFINITIONS = """
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import String

from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, listed_field, source, times_field
from features.definitions.recipe import Activity, History, Rate

RATES = (Rate("click", prior=0.1),)
VIEWER = Entity(name="viewer", join_keys=["user_id"], value_type=ValueType.STRING)
THING = Entity(name="thing", join_keys=["item_id"], value_type=ValueType.STRING)
BRAND = Entity(name="brand", join_keys=["brand"], value_type=ValueType.STRING)
RECIPES = {
    "viewer": Activity(
        key="user_id", prefix="viewer", rates=RATES,
        history=History({"seen": "item_id", "seen_brands": "brand", "seen_at": "event_timestamp"}, length=50),
    ),
    "thing": Activity(key="item_id", prefix="thing", rates=RATES),
    "brand": Activity(key="brand", prefix="brand", rates=RATES),
    "liking": Activity(key=("user_id", "brand"), prefix="liking", rates=RATES),
}
ENTITIES = {"viewer": [VIEWER], "thing": [THING], "brand": [BRAND], "liking": [VIEWER, BRAND]}
LISTS = [
    listed_field("seen", 50, "seen_at", text=True, shares="item_id", auxiliary=False),
    listed_field("seen_brands", 50, "seen_at", text=True, shares="brand", auxiliary=False),
    times_field("seen_at", 50),
]
VIEWS = tuple(
    FeatureView(
        name=name, entities=ENTITIES[name], ttl=NEVER, source=source(name, "What happened so far."),
        schema=[
            *(Field(name=key, dtype=String) for key in recipe.keys), *activity_fields(recipe),
            *(LISTS if name == "viewer" else ()),
        ],
    )
    for name, recipe in RECIPES.items()
)
SERVICE = FeatureService(name="shop", features=list(VIEWS))
DEFINITIONS = Definitions(entities=(VIEWER, THING, BRAND), views=VIEWS, services=(SERVICE,), recipes=RECIPES)
"""


def write_log(folder: Path, rows: int) -> None:
    """Write a log of a shop: users who come some dozen times a month, items of which few are seen often."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    user = rng.integers(0, max(3, rows // EACH), rows)
    item = np.minimum(rng.zipf(1.3, rows), 50_000) * 7919 % 50_000
    at = np.sort(rng.integers(0, DAYS * 86_400_000_000, rows))
    table = pl.DataFrame(
        {
            "user": user,
            "item": item,
            "brand": item % 500,
            "price": (item % 97).astype(np.float64) + 0.99,
            "at": pl.Series(at).cast(pl.Duration("us")) + START,
            "click": (rng.random(rows) < 0.05 + 0.3 * (item % 7 == user % 7)).astype(np.int8),
        }
    )
    table.write_parquet(folder / "log.parquet")


def staged(folder: str, stage: str) -> Iterator[None]:
    """Run one stage of the YAML; those before it come from the cache. Returns the highest memory of the process."""
    from components.platform.settings import Settings
    from features.declaration import Window
    from pipelines.language.check import load_plan
    from tests.benchmarks.child import memory
    from tests.stages import run_before, run_planned

    plan = load_plan(Path(folder) / "stage_memory.yaml")
    settings, window = Settings.at(Path(folder) / "home"), Window(start=START, end=START + timedelta(days=DAYS))
    done = run_before(plan, stage, settings, window)
    yield
    done[stage] = run_planned(plan, stage, done, settings, window)
    yield
    digests = {name: ref.digest for name, ref in done[stage].outputs.items()}
    return {"whole": memory("VmHWM"), "digests": digests}  # type: ignore[return-value]  # tests.benchmarks.child reads it


def run(lab: Lab) -> Report:
    """Take logs of several sizes through the data stages, and through those that judge a ranker."""
    sizes = (2_000,) if lab.quick else SIZES
    found: dict[int, dict[str, Any]] = {}
    for rows in sizes:
        folder = lab.work / str(rows)
        folder.mkdir()
        lab.say(f"{rows:,} impressions: writing the log")
        write_log(folder, rows)
        pipeline = PIPELINE.format(days=DAYS, end=START + timedelta(days=DAYS))
        (folder / "stage_memory.yaml").write_text(pipeline, encoding="utf-8")
        (folder / "shop.py").write_text(DEFINITIONS, encoding="utf-8")
        for stage in STAGES:
            lab.say(f"{rows:,} impressions: {stage}")
            cost = lab.child(staged, LIMIT_SECONDS, folder=str(folder), stage=stage)
            assert cost is not None
            found.setdefault(rows, {})[stage] = cost.value | {"seconds": cost.seconds}
        if lab.quick:
            continue
        lab.child(prepared, LIMIT_SECONDS, folder=str(folder))
        for stage in JUDGES:
            lab.say(f"{rows:,} impressions: {stage}")
            cost = lab.child(judged, LIMIT_SECONDS, folder=str(folder), stage=stage)
            assert cost is not None
            found[rows][stage] = cost.value | {"seconds": cost.seconds}
    return Report(
        series=(
            _series("Memory of a stage's process, at its highest", "MiB", found, "whole"),
            _series("Seconds of a stage", "s", found, "seconds"),
        ),
        goals=tuple(_goals(found)),
        facts=() if lab.quick else (JUDGED,),
    )


def _goals(found: dict[int, dict[str, Any]]) -> Iterator[Goal]:
    for rows, limit in LIMITS.items():
        if rows in found:
            most = max(found[rows], key=lambda stage: found[rows][stage]["whole"])
            worst = found[rows][most]["whole"]
            text = f"{rows:,} impressions: every stage within {limit:,.0f} MiB"
            yield Goal(text=text, measured=f"{worst:,.0f} MiB ({most})", met=worst <= limit)


def _series(title: str, unit: str, found: dict[int, dict[str, Any]], key: str) -> Series:
    stages = tuple(next(iter(found.values())))
    samples = {
        f"{rows:,} impressions": tuple((float(found[rows][stage][key]),) for stage in stages)
        for rows in reversed(found)
    }
    return Series(title=title, unit=unit, better="lower", axis="stage", cases=stages, samples=samples)


BENCHMARK = Benchmark(
    title="Data stages as a window grows",
    question="How much memory does a data stage take as its window grows, and how long?",
    run=run,
    notes=(
        f"One generated log, {EACH} impressions a user over {DAYS} days, 50,000 items of 500 brands; the four stages "
        "of one YAML file, each in a process of its own, without the online store: a count, a gap and a rate in each "
        "of four views (by user, item, brand, and user and brand), and histories of 50 items and brands.",
        "Memory is that of the whole process, libraries and mapped files included. What a stage need not hold waits on "
        "disk: keys have their turn after each other, and columns are joined and encoded one by one.",
    ),
    order=17,
)
