"""What do histories of a thousand events cost, from the log to a trained ranker?"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Goal, Report, Series
from tests.benchmarks.lab import Lab

SHORT, LONG = 50, 1000
EACH = 2000
"""Impressions of a user."""
DAYS, START = 30, datetime(2026, 1, 1, tzinfo=UTC)
STAGES = ("ingest", "features", "dataset", "train")
LIMIT_SECONDS = 3600
PIPELINE = """
name: long_histories_{length}
window: {{end: "{end:%Y-%m-%d}", days: {days}}}
stages:
  ingest:
    uses: ingest_table
    with:
      files: log.parquet
      user: user
      item: item
      timestamp: at
      feedback: {{click: click}}
  features:
    uses: materialize_features
    in: {{table: ingest.events}}
    with: {{feature_service: long, definitions: long_{length}.py, online: false}}
  dataset:
    uses: build_training_set
    in: {{events: ingest.events, features: features.feature_tables}}
    with:
      feature_service: long
      definitions: long_{length}.py
      feedback: [click]
      split: {{by: time, train: 0.8, validation: 0.1, test: 0.1}}
  train:
    uses: train_ranker
    in: {{dataset: dataset.training_set}}
    with: {{ranker: {{name: dnn}}, epochs: 1, batch_size: 4096, workers: 1}}
"""
DEFINITIONS = """
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import String

from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, listed_field, source, times_field
from features.definitions.recipe import Activity, History

VIEWER = Entity(name="viewer", join_keys=["user_id"], value_type=ValueType.STRING)
RECIPE = Activity(
    key="user_id", prefix="viewer",
    history=History({{"seen": "item_id", "seen_at": "event_timestamp"}}, length={length}),
)
VIEW = FeatureView(
    name="viewer", entities=[VIEWER], ttl=NEVER, source=source("viewer", "What users saw before."),
    schema=[
        Field(name="user_id", dtype=String), *activity_fields(RECIPE),
        listed_field("seen", {length}, "seen_at", text=True, shares="item_id", auxiliary=False),
        times_field("seen_at", {length}),
    ],
)
SERVICE = FeatureService(name="long", features=[VIEW])
DEFINITIONS = Definitions(entities=(VIEWER,), views=(VIEW,), services=(SERVICE,), recipes={{"viewer": RECIPE}})
"""


def write_log(folder: Path, rows: int) -> None:
    """Write a log of users who click what their own five groups of items hold."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    users, items, groups = max(3, rows // EACH), 50_000, 50
    user = rng.integers(0, users, rows)
    item = np.minimum(rng.zipf(1.3, rows), items) * 7919 % items
    likes = rng.random((users, groups)) < 0.1
    click = rng.random(rows) < np.where(likes[user, item % groups], 0.4, 0.05)
    at = np.sort(rng.integers(0, DAYS * 86_400_000_000, rows))
    times = pl.Series(at).cast(pl.Duration("us")) + START
    table = pl.DataFrame({"user": user, "item": item, "at": times, "click": click.astype(np.int8)})
    table.write_parquet(folder / "log.parquet")


def staged(folder: str, length: int, stage: str) -> Iterator[None]:
    """Run one stage of the YAML; those before it come from the cache. Returns bytes, peaks and the stage's facts."""
    import json

    from components.data.training_set import read_encoded, read_schema
    from components.platform.settings import Settings
    from components.platform.store.publish import open_store
    from features.declaration import Window
    from pipelines.language.check import load_plan
    from tests.benchmarks.real_rows import present
    from tests.stages import run_before, run_planned

    plan = load_plan(Path(folder) / f"long_histories_{length}.yaml")
    settings, window = (
        Settings.at(Path(folder) / f"home{length}"),
        Window(start=START, end=START + timedelta(days=DAYS)),
    )
    done = run_before(plan, stage, settings, window)
    yield
    done[stage] = run_planned(plan, stage, done, settings, window)
    yield
    held = open_store(settings).fetch(next(iter(done[stage].outputs.values())).load())
    size = sum(file.stat().st_size for file in held.rglob("*") if file.is_file())
    facts = json.loads((held / "manifest.json").read_text(encoding="utf-8"))["annotations"]
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    ids = 0.0
    if stage == "dataset":
        schema = read_schema(held)
        ids, _ = present(read_encoded(held, "train", schema), schema)
    told = {"mib": size / 2**20, "children": children, "facts": facts, "ids": ids}
    return told  # type: ignore[return-value]  # tests.benchmarks.child reads it


def run(lab: Lab) -> Report:
    """Take one log to a trained ranker with short and with long histories."""
    rows = 4_000 if lab.quick else 5_000_000
    lengths = (5, 50) if lab.quick else (SHORT, LONG)
    lab.say(f"{rows:,} impressions: writing the log")
    write_log(lab.work, rows)
    found: dict[str, dict[str, Any]] = {}
    for length in lengths:
        pipeline = PIPELINE.format(length=length, days=DAYS, end=START + timedelta(days=DAYS))
        (lab.work / f"long_histories_{length}.yaml").write_text(pipeline, encoding="utf-8")
        (lab.work / f"long_{length}.py").write_text(DEFINITIONS.format(length=length), encoding="utf-8")
        for stage in STAGES:
            lab.say(f"histories of {length}: {stage}")
            cost = lab.child(staged, LIMIT_SECONDS, folder=str(lab.work), length=length, stage=stage)
            assert cost is not None
            found[f"{length}: {stage}"] = cost.value | {"seconds": cost.seconds, "peak": cost.mib}
    sets = [found[f"{length}: dataset"] for length in lengths]
    short, long = (each["mib"] for each in sets)
    train = found[f"{lengths[1]}: train"]
    seconds = float(train["facts"]["epoch_seconds"])
    return Report(
        series=(
            _series("what a stage leaves on disk", "MiB", found, lengths, "mib"),
            _series("seconds of a stage", "s", found, lengths, "seconds"),
            _series("memory of a stage on top of its libraries, at its highest", "MiB", found, lengths, "peak"),
        ),
        goals=(
            Goal(
                text=f"a training set with histories of {lengths[1]:,} at most 1.2 × one with {lengths[0]}",
                measured=f"{long / short:.2f} ×",
                met=long <= 1.2 * short,
            ),
        ),
        facts=(
            f"{rows:,} impressions of {max(3, rows // EACH):,} users; a training row holds {sets[1]['ids']:,.0f} ids, "
            f"with histories of {lengths[0]} it is {sets[0]['ids']:,.0f}. One pass over the training rows (80 %) with "
            f"the long ones takes {seconds:,.0f} s, and its process {train['children']:,.0f} MiB.",
        ),
    )


def _series(title: str, unit: str, found: dict[str, Any], lengths: tuple[int, int], key: str) -> Series:
    """Return one quantity by stage, of long histories beside that of short ones."""
    samples = {
        f"histories of {length:,}": tuple((float(found[f"{length}: {stage}"][key]),) for stage in STAGES)
        for length in reversed(lengths)
    }
    return Series(title=title, unit=unit, better="lower", axis="stage", cases=STAGES, samples=samples)


BENCHMARK = Benchmark(
    title="Long histories",
    question="What do histories of a thousand events cost, from the log to a trained ranker?",
    run=run,
    notes=(
        f"One generated log, {EACH:,} impressions a user over {DAYS} days, 50,000 items; the four stages of one YAML "
        "file, each in a process of its own, without the online store. The events of a user are stored once; a row "
        "says where its history ends. `dnn`, batches of 4,096 rows, one pass, one worker.",
        "The training process is a child of the stage: its memory is told in words.",
    ),
    order=16,
)
