"""Does a DAG hold what its file says? Schedules, places of stages and files of parents, as Airflow's own objects."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.platform.errors import BadInputError
from pipelines.language.params import misfit
from pipelines.language.spec import ParamSpec

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


def test_a_stage_whose_condition_is_false_is_skipped_and_airflow_skips_what_needs_it(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowSkipException

    from pipelines.run import airflow_dag

    given = "params: {full: {type: boolean, default: false}}\nstages:"
    text = PIPELINE.replace("stages:", given).replace(
        "uses: ingest_table", 'uses: ingest_table\n    when: "${params.full}"'
    )
    dag = build(written(tmp_path, text))
    assert dag.task_dict["contract"].trigger_rule == "all_success"
    ran: list[Any] = []

    def run(attempt: Any) -> None:
        ran.append(attempt)
        raise BadInputError("it ran")

    monkeypatch.setattr(airflow_dag, "run_stage", run)
    monkeypatch.setattr(airflow_dag, "moment_of", lambda run: None)
    monkeypatch.setattr("pipelines.show.pages.report.report_when_ended", lambda *about: None)
    task, ti = dag.task_dict["ingest"], SimpleNamespace(try_number=1)
    for conf in ({}, None, {"full": False}):
        with pytest.raises(AirflowSkipException, match="stage 'ingest' is skipped: full is false in this run"):
            task._execute({"ti": ti, "dag_run": SimpleNamespace(conf=conf, run_id="r")}, None)
    assert not ran
    with pytest.raises(AirflowException, match="it ran"):
        task._execute({"ti": ti, "dag_run": SimpleNamespace(conf={"full": True}, run_id="r")}, None)
    assert len(ran) == 1


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


PLACED = PIPELINE.replace(
    "stages:\n",
    "max_active_runs: 2\ndeadline: 3h\ndefaults: {queue: cpu, priority: 2, resources: {cpus: 2}}\nstages:\n",
).replace(
    "suite: table_events}",
    "suite: table_events}, pool: gpus, pool_slots: 2, queue: gpu, executor: LocalExecutor, resources: {gpus: 1}",
)


def test_a_stage_runs_where_its_file_says(build: Any, tmp_path: Path) -> None:
    from datetime import timedelta

    dag = build(written(tmp_path, PLACED))
    ingest, contract = dag.task_dict["ingest"], dag.task_dict["contract"]
    assert (ingest.pool, ingest.pool_slots, ingest.queue, ingest.executor) == ("default_pool", 1, "cpu", None)
    assert (contract.pool, contract.pool_slots, contract.queue) == ("gpus", 2, "gpu")
    assert (contract.executor, contract.priority_weight, ingest.priority_weight) == ("LocalExecutor", 2, 2)
    assert (ingest.resources.cpus.qty, contract.resources.gpus.qty) == (2, 1)
    # Runs of a backfill have a limit of their own; tasks count over all runs.
    assert dag.max_active_runs == 2 and {task.max_active_tis_per_dag for task in dag.tasks} == {2}
    (alert,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    assert alert.interval == timedelta(hours=3) and alert.callback.path.endswith("airflow_dag.deadline_missed")


def test_a_run_alone_needs_no_pool_and_no_queue(build: Any, tmp_path: Path) -> None:
    dag = build(written(tmp_path, PLACED), alone=True)
    assert {(task.pool, task.queue, task.executor) for task in dag.tasks} == {("default_pool", "default", None)}
    assert not dag.deadline


def test_unless_a_file_says_so_one_run_and_one_of_each_stage_at_a_time(build: Any, tmp_path: Path) -> None:
    dag = build(written(tmp_path, PIPELINE))
    assert dag.max_active_runs == 1 and {task.max_active_tis_per_dag for task in dag.tasks} == {1}


def test_a_late_run_is_told_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    from pipelines.run.airflow_dag import deadline_missed

    asyncio.run(deadline_missed("shop", "3:00:00", {"dag_run": {"dag_run_id": "scheduled__2026"}}))
    assert "shop: run scheduled__2026 has not ended 3:00:00 after it was queued" in caplog.text


PARAMS: dict[str, dict[str, Any]] = {
    "hidden": {"type": "array", "items": {"type": "integer"}, "default": [64, 32]},
    "extra": {"type": "object", "default": {"a": 1}},
    "limit": {"type": "integer", "nullable": True, "default": None, "minimum": 1},
    "pick": {"type": "string", "enum": ["a", "b"], "nullable": True, "default": "a"},
    "day": {"type": "string", "format": "date"},
}
VALUES: list[Any] = [
    None,
    True,
    0,
    3,
    0.5,
    "",
    "a",
    "c",
    "2026-01-31",
    [],
    [1, 2],
    ["x"],
    [True],
    [None],
    {},
    {"b": [1]},
]


@pytest.mark.parametrize("name", PARAMS)
def test_the_form_takes_what_the_language_takes(build: Any, name: str) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from pipelines.run.airflow_dag import _param

    declared = ParamSpec.model_validate(PARAMS[name])
    field = _param(declared)
    if "default" in PARAMS[name]:
        assert field.resolve() == declared.default
    taken = [value for value in VALUES if misfit(declared, value) is None]
    for value in VALUES:
        if value in taken and type(value) in {type(one) for one in taken}:
            assert field.resolve(value=value) == value
        else:
            with pytest.raises(ParamValidationError):
                field.resolve(value=value)
    assert 0 < len(taken) < len(VALUES)


def test_a_param_without_a_default_is_asked_for(build: Any, tmp_path: Path) -> None:
    text = (
        PIPELINE.replace("days: 1", 'days: 1, end: "${params.day}"') + "params: {day: {type: string, format: date}}\n"
    )
    assert not build(written(tmp_path, text)).params.get_param("day").has_value


def test_airflow_stores_such_a_dag(build: Any, tmp_path: Path) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = build(written(tmp_path, PLACED + "schedule: {cron: '0 2 * * *', timezone: Europe/Berlin}\n"))
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert (again.task_dict["contract"].pool, again.task_dict["contract"].max_active_tis_per_dag) == ("gpus", 2)
    assert again.max_active_runs == 2
