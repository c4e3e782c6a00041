"""What does a lineage server learn about tables, models and verdicts, and what if they cannot be read?"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from components.platform.artifacts import EvaluationReport, FeatureTables, ModelVersion, Promotion
from components.platform.execute import StageResult
from components.platform.settings import Settings
from pipelines.language.plan import Plan
from pipelines.run.lineage import Column, DataSet, events, facets, lineage_of
from pipelines.run.task import Attempt
from tests.unit.pipelines.run import test_task
from tests.unit.pipelines.run.test_summary import REPORT, VERDICT, VERSION, Records
from tests.unit.pipelines.run.test_task import MOMENT

plan = test_task.plan


def made(plan: Plan, result: StageResult | None, settings: Settings) -> tuple[DataSet, ...]:
    """What the first stage of the example would have made."""
    attempt = Attempt(plan, plan.stage("numbers"), "r", {}, MOMENT, {})
    return lineage_of(attempt, result and result.model_copy(update={"stage": "numbers"}), settings).outputs


@pytest.mark.parametrize(
    ("kind", "file", "text", "told"),
    [
        (ModelVersion, "version.json", VERSION.model_dump_json(), {"model": "movielens_ranker", "version": 12}),
        (Promotion, "verdict.json", VERDICT.model_dump_json(), {"version": 12, "champion": 11, "answer": "promoted"}),
    ],
)
def test_a_registered_and_a_judged_model_carry_what_was_said(
    plan: Plan, tmp_path: Path, kind: type[ModelVersion], file: str, text: str, told: dict[str, object]
) -> None:
    records = Records(tmp_path)
    (one,) = made(plan, records.stage("any", kind, {file: text}), records.settings)
    assert told.items() <= dict(one.model).items() and "judgements" not in one.model and "challenger" not in one.model
    assert one.name == "adding.numbers.out" and one.kind == kind.kind and len(one.version) == 64
    said = facets(one)
    assert said["datasetType"].datasetType == "MODEL"
    assert {name: getattr(said["rankmill_model"], name) for name in told} == told

    (Path(one.uri.removeprefix("file://")) / file).write_text("no longer JSON")
    (broken,) = made(plan, records.stage("other", kind, {file: "{}"}), records.settings)
    assert broken.model == {} and "rankmill_model" not in facets(broken)


def test_an_artifact_of_several_tables_names_each(plan: Plan, tmp_path: Path) -> None:
    records = Records(tmp_path)
    settings = records.settings
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "x.parquet")
    pl.DataFrame({"b": ["x"], "c": [1.5]}).write_parquet(tmp_path / "y.parquet")

    def stage(name: str, **files: str) -> tuple[Column, ...]:
        texts = {"service.json": "{}"}
        result = publish(records, name, {f"{table}.parquet": tmp_path / file for table, file in files.items()}, texts)
        return made(plan, result, settings)[0].columns

    assert stage("one", users="x.parquet") == (Column("a", "int64"),)
    assert stage("same", train="x.parquet", test="x.parquet") == (Column("a", "int64"),)
    both = stage("both", users="x.parquet", items="y.parquet")
    assert [(table.name, table.type, [one.name for one in table.columns]) for table in both] == [
        ("items", "struct", ["b", "c"]), ("users", "struct", ["a"])
    ]  # fmt: skip
    said = facets(DataSet("n", "k", "v", columns=both))
    assert said["schema"].fields[0].fields[1].name == "c"


def publish(records: Records, name: str, tables: dict[str, Path], texts: dict[str, str]) -> StageResult:
    """Publish binary files beside texts."""
    from components.platform.store.publish import open_store

    draft = records.staged / name / "out"
    draft.mkdir(parents=True)
    for file, path in tables.items():
        (draft / file).write_bytes(path.read_bytes())
    for file, text in texts.items():
        (draft / file).write_text(text)
    record = open_store(records.settings).publish(
        records.staged / name, {"out": FeatureTables(uri=str(draft))}, component=name, component_version="1",
        key=f"key-{name}", config_digest="", inputs={}, explanation={}, seconds=1, notes=[], annotations={},
    )  # fmt: skip
    return StageResult(stage=name, component=name, key=record.key, cached=False, seconds=1, outputs=record.outputs,
                       notes=[])  # fmt: skip


def test_what_is_gone_is_still_named_and_a_failed_stage_made_nothing(plan: Plan, tmp_path: Path) -> None:
    records = Records(tmp_path)
    result = records.stage("evaluate", EvaluationReport, {"report.json": REPORT.model_dump_json()})
    (tmp_path / "artifacts" / "evaluate" / "key-evaluate" / "out" / "manifest.json").unlink()
    (one,) = made(plan, result, records.settings)
    assert one.columns == () and one.version == result.outputs["out"].digest
    assert made(plan, None, records.settings) == ()


def test_no_password_of_a_store_is_told() -> None:
    said = facets(DataSet("n", "ranker", "v", uri="s3://me:hunter2@store/bucket/ranker"))
    assert "hunter2" not in said["dataSource"].uri and said["dataSource"].uri.endswith("store/bucket/ranker")


def test_events_are_what_airflow_takes(plan: Plan, tmp_path: Path) -> None:
    from airflow.providers.openlineage.extractors import OperatorLineage

    attempt = Attempt(plan, plan.stage("numbers"), "r", {}, MOMENT, {})
    lineage = OperatorLineage(**events(lineage_of(attempt, None, Settings.at(tmp_path))))
    assert (lineage.inputs, lineage.outputs) == ([], []) and set(lineage.run_facets) == {"rankmill_stage"}
