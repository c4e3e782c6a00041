"""Does a DAG hold what its file says? Schedules, places of stages and files of parents, as Airflow's own objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PIPELINE = """\
name: shop
window: {days: 1}
stages:
  ingest:
    uses: ingest_table
    with: {files: a.csv, user: u, item: i, timestamp: t, feedback: {click: c}}
  contract: {uses: validate_data, in: {table: ingest.events}, with: {suite: table_events}}
"""


@pytest.fixture(scope="module")
def build() -> Any:
    from pipelines.run.airflow_dag import build_dag

    return build_dag


def written(folder: Path, text: str, name: str = "shop") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def test_a_change_of_a_parent_changes_the_dag(build: Any, tmp_path: Path) -> None:
    written(tmp_path, PIPELINE)
    child = written(tmp_path, "name: child\nextends: shop.yaml\nschedule: '@daily'\n", "child")
    before = build(child)
    written(tmp_path, PIPELINE.replace("suite: table_events}", "suite: table_events}, retries: 4"))
    written(tmp_path, "owner: team\n", "defaults")
    after = build(child)
    assert (before.task_dict["contract"].retries, after.task_dict["contract"].retries) == (0, 4)
    assert (
        "retries: 4" in after.task_dict["contract"].doc_md and "retries: 4" not in before.task_dict["contract"].doc_md
    )
    assert {task.owner for task in before.tasks} == {"rankmill"} and {task.owner for task in after.tasks} == {"team"}
    assert "child.yaml" in after.doc_md and "shop.yaml" in after.doc_md


@pytest.mark.parametrize(
    ("schedule", "kind", "zone", "join"),
    [
        ('{cron: "0 2 * * *", timezone: Europe/Berlin}', "CronTriggerTimetable", "Europe/Berlin", None),
        ('{cron: "0 2 * * *", timezone: Asia/Tokyo, partitioned: true}', "CronPartitionTimetable", "Asia/Tokyo", None),
        ("{assets: {all: [other.contract.table, other.ingest.events]}}", "AssetTriggeredTimetable", None, "AssetAll"),
        ("{assets: {any: [other.contract.table, other.ingest.events]}}", "AssetTriggeredTimetable", None, "AssetAny"),
        ("{assets: [other.contract.table]}", "AssetTriggeredTimetable", None, "AssetAny"),
        (
            '{cron: "0 2 * * *", timezone: Europe/Berlin, assets: {all: [other.contract.table]}}',
            "AssetOrTimeSchedule", "Europe/Berlin", "AssetAll",
        ),
    ],
)  # fmt: skip
def test_a_schedule_is_airflows(
    build: Any, tmp_path: Path, schedule: str, kind: str, zone: str | None, join: str | None
) -> None:
    written(tmp_path, PIPELINE.replace("shop", "other"), "other")
    dag = build(written(tmp_path, f"{PIPELINE}schedule: {schedule}\n"))
    table = dag.timetable
    assert type(table).__name__ == kind
    clock = getattr(table, "timetable", table)
    assert (str(clock.timezone) if zone else None) == zone
    assert (type(table.asset_condition).__name__ if join else None) == join
