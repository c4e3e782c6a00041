"""Does a backfill of a past day give that day's training set byte for byte, whatever was stored since?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from pipelines.language.check import load_plan
from pipelines.language.spec import PipelineSpec, Schedule
from pipelines.record.runs import recorded_runs
from pipelines.run.task import Attempt, run_stage
from tests.integration.airflow.conftest import World, make_world
from tests.integration.airflow.stack import Stack, serving
from tests.local_servers import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(420)]

DAY = datetime(2026, 1, 5, 2, tzinfo=UTC)
PIPELINE = """
name: shop
schedule: {schedule}
window: {{days: 3}}
stages:
  ingest:
    uses: ingest_table
    with:
      files: impressions.csv
      user: uid
      item: {{column: article, type: int64}}
      timestamp: shown_at
      created: stored_at
      duplicates: latest
      feedback: {{click: clicked}}
      columns: {{taste: string}}
  features:
    uses: materialize_features
    in: {{table: ingest.events}}
    with: {{feature_service: shop, definitions: shop_features.py, online: false}}
  dataset:
    uses: build_training_set
    in: {{events: ingest.events, features: features.feature_tables}}
    with: {{feature_service: shop, definitions: shop_features.py, feedback: [click]}}
"""
FEATURES = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import String

from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile

shopper = Entity(name="shopper", join_keys=["user_id"], value_type=ValueType.STRING)
profile = FeatureView(
    name="profile", entities=[shopper], ttl=NEVER, source=source("profile", "Shoppers."),
    schema=[Field(name="user_id", dtype=String), Field(name="taste", dtype=String)],
)
shop = FeatureService(name="shop", features=[profile])
DEFINITIONS = Definitions(
    entities=(shopper,), views=(profile,), services=(shop,),
    recipes={"profile": Profile(key="user_id", columns=("taste",))},
)
"""


def rows(seed: int, count: int, stored: datetime | None = None) -> list[str]:
    """Impressions of 2 to 4 January, stored at once unless said otherwise."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        shown = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=draw.randrange(3 * 86_400))
        user, article = draw.randrange(20), draw.randrange(9)
        taste, click = draw.choice(["books", "music"]), int(draw.random() < 0.4)
        lines.append(f"u{user},{article},{shown:%Y-%m-%d %H:%M:%S},{stored or shown:%Y-%m-%d %H:%M:%S},{click},{taste}")
    return lines


FIRST = rows(1, 400)


def corrected(line: str, stored: datetime) -> str:
    """The same impression with the other label, stored again."""
    user, article, shown, _, click, taste = line.split(",")
    return f"{user},{article},{shown},{stored:%Y-%m-%d %H:%M:%S},{1 - int(click)},{taste}"


LATE = DAY + timedelta(minutes=1)
IN_TIME = DAY - timedelta(minutes=1)


def write_shop(folder: Path, lines: list[str], schedule: str = "'0 2 * * *'") -> Path:
    """Write tables, definitions and pipeline; return the pipeline's file."""
    folder.mkdir(exist_ok=True)
    head = "uid,article,shown_at,stored_at,clicked,taste"
    (folder / "impressions.csv").write_text("\n".join([head, *lines, ""]))
    (folder / "shop_features.py").write_text(FEATURES)
    (folder / "shop.yaml").write_text(PIPELINE.format(schedule=schedule))
    return folder / "shop.yaml"


def run_day(file: Path, home: Path, moment: datetime = DAY) -> dict[str, StageResult]:
    """Run the stages of the day as tasks would, in this process."""
    plan = load_plan(file)
    done: dict[str, StageResult] = {}
    for stage in plan.stages:
        done[stage.name] = run_stage(Attempt(plan, stage, "of-the-day", {}, moment, done), Settings.at(home))
    return done


def digest(done: dict[str, StageResult]) -> str:
    return done["dataset"].outputs["training_set"].digest


@pytest.fixture(scope="module")
def that_day(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the training set that the run of the day made."""
    folder = tmp_path_factory.mktemp("that_day")
    return digest(run_day(write_shop(folder, FIRST), folder / "home"))


@pytest.mark.parametrize(
    ("later", "moment", "schedule", "same"),
    [
        (rows(2, 30, stored=LATE), DAY, "'0 2 * * *'", True),
        ([corrected(line, LATE) for line in FIRST[:30]], DAY, "'0 2 * * *'", True),
        # By hand in the afternoon: the window of the day is the same, and so is what was known of it.
        (rows(2, 30, stored=LATE), DAY + timedelta(hours=13), "'0 2 * * *'", True),
        # What the run of the day could have seen changes it, and so does a limit that is not there.
        (rows(2, 30, stored=IN_TIME), DAY, "'0 2 * * *'", False),
        ([corrected(line, IN_TIME) for line in FIRST[:30]], DAY, "'0 2 * * *'", False),
        (rows(2, 30, stored=LATE), DAY, "null", False),
        (rows(2, 30, stored=LATE), DAY, "'0 3 * * *'", False),
    ],
)
def test_rows_stored_after_the_run_of_the_day_are_no_part_of_it(
    that_day: str, tmp_path: Path, later: list[str], moment: datetime, schedule: str, same: bool
) -> None:
    mixed = [*FIRST, *later]
    random.Random(3).shuffle(mixed)
    again = digest(run_day(write_shop(tmp_path / "shop", mixed, schedule), tmp_path / "home", moment))
    assert (again == that_day) is same


@pytest.mark.parametrize(
    ("schedule", "kind", "partitioned"),
    [
        (Schedule(cron="0 2 * * *", partitioned=True), "CronPartitionTimetable", True),
        (Schedule(assets=("a.b.c",), partitioned=True), "PartitionedAssetTimetable", True),
        (Schedule(cron="0 2 * * *"), "str", False),
        (Schedule(assets=("a.b.c",)), "AssetAny", False),
        (Schedule(cron="0 2 * * *", assets=("a.b.c",)), "AssetOrTimeSchedule", False),
    ],
)
def test_a_partitioned_schedule_is_airflows_own(schedule: Schedule, kind: str, partitioned: bool) -> None:
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from pipelines.run.airflow_dag import schedule_of

    stages = {"only": {"uses": "write_words"}}
    spec = {"name": "d", "schedule": schedule, "stages": stages, "window": {"days": 7}}
    made = schedule_of(PipelineSpec.model_validate(spec))
    assert type(made).__name__ == kind
    kept = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(DAG("d", schedule=made, start_date=DAY)))
    assert kept.timetable.partitioned is partitioned


CHAIN = """
name: {name}
schedule: {schedule}
window: {{days: 7}}
stages:
  only: {{uses: write_words, with: {{trace: {trace}}}, cache: '{cache}'}}
"""


@pytest.fixture(scope="module")
def backfilling(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Iterator[tuple[World, Stack]]:
    """Airflow with a shop whose late rows have come, and a chain of two partitioned pipelines."""
    world = make_world(tmp_path_factory.mktemp("backfill"), engines)
    files = {"shop": write_shop(world.folder, [*FIRST, *rows(2, 30, stored=LATE)])}
    for name, schedule, cache in (
        ("head", "{cron: '0 2 * * *', partitioned: true}", "all"),
        ("tail", "{assets: [head.only.words], partitioned: true}", "off"),
    ):
        files[name] = world.folder / f"{name}.yaml"
        trace = world.folder / f"{name}.trace"
        files[name].write_text(CHAIN.format(name=name, schedule=schedule, cache=cache, trace=trace))
    with serving(world, files) as stack:
        assert wait_for(lambda: len(stack.ask("GET", "/dags")["dags"]) == len(files)), stack.ask("GET", "/importErrors")
        yield world, stack


def backfill(stack: Stack, dag: str, first: datetime, last: datetime, **more: str) -> list[dict[str, Any]]:
    """Backfill through Airflow's API, as `airflow backfill create` does; return its finished runs."""
    stack.ask("PATCH", f"/dags/{dag}", {"is_paused": False})
    window = {"from_date": first.isoformat(), "to_date": last.isoformat()}
    stack.ask("POST", "/backfills", {"dag_id": dag, **window, **more})

    def ended() -> list[dict[str, Any]]:
        runs = [run for run in stack.ask("GET", f"/dags/{dag}/dagRuns")["dag_runs"] if run["run_type"] == "backfill"]
        return runs if runs and all(run["state"] in ("success", "failed") for run in runs) else []

    return wait_for(ended, 200)


@pytest.mark.long
def test_airflows_backfill_gives_the_training_set_of_the_day(that_day: str, backfilling: tuple[World, Stack]) -> None:
    world, stack = backfilling
    (run,) = backfill(stack, "shop", DAY, DAY)
    assert (run["state"], run["logical_date"]) == ("success", "2026-01-05T02:00:00Z")
    settings = Settings.at(world.home)
    (found,) = [kept for kept in recorded_runs(settings, "shop") if kept.start.run_id == run["dag_run_id"]]
    assert found.report is not None and "backfill__" in found.report.read_text()
    refs = {result.stage: result.outputs for result in found.results}
    assert refs["dataset"]["training_set"].digest == that_day
    events = open_store(settings).fetch(refs["ingest"]["events"].load()) / "events.parquet"
    assert len(pl.read_parquet(events)) == len(FIRST)


@pytest.mark.long
def test_a_backfill_of_a_partitioned_pipeline_goes_down_the_chain(backfilling: tuple[World, Stack]) -> None:
    world, stack = backfilling
    stack.ask("PATCH", "/dags/tail", {"is_paused": False})
    # The store has the words of every day already, and who waits for them has never run.
    done = world.rankmill("run", str(world.folder / "head.yaml"), "--at", "2026-01-03")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = backfill(stack, "head", DAY - timedelta(days=1), DAY)
    assert {run["partition_key"] for run in runs} == {"2026-01-04T02:00:00", "2026-01-05T02:00:00"}

    def windows(name: str) -> list[str]:
        trace = world.folder / f"{name}.trace"
        lines = trace.read_text().splitlines() if trace.exists() else []
        return sorted(line.partition(" ")[2].partition(" as ")[0] for line in lines)

    wanted = ["[2025-12-28T00:00:00Z, 2026-01-04T00:00:00Z)", "[2025-12-29T00:00:00Z, 2026-01-05T00:00:00Z)"]
    assert len(windows("head")) == 1, "everything after the first run came from the store"
    assert wait_for(lambda: {*windows("tail")} >= {*wanted}), windows("tail")

    again = backfill(stack, "head", DAY - timedelta(days=1), DAY, reprocess_behavior="completed")
    assert {run["state"] for run in again} == {"success"}
    (asset,) = stack.ask("GET", "/assets?name_pattern=head.only.words")["assets"]
    events = stack.ask("GET", f"/assets/events?asset_id={asset['id']}")["asset_events"]
    told = sorted(event["partition_key"] for event in events if event["partition_key"] < "2026-02")
    assert told == ["2026-01-04T02:00:00", "2026-01-05T02:00:00"], "each day is told once"
