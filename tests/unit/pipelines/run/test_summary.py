"""Does the closing table tell what was made, how good it is, what was decided and where to look?"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from components.platform.artifacts import Artifact, DataDocs, ErrorMemory, EvaluationReport, ModelVersion, Promotion
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from pipelines.language.check import load_plan
from pipelines.language.load import pipeline_path
from pipelines.record.runs import Failure, RunOutcome
from pipelines.show.summary import print_summary
from registry.evaluation import Cell, Evaluation, Interval
from registry.gate.verdict import Verdict
from registry.memory.prequential import SlotMetrics, SlotReport, TaskSlot
from registry.serving.model.contract import RegisteredVersion

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def cell(task: str, domain: str, auc: float | None) -> Cell:
    metrics = {"auc": Interval(value=auc, low=0.7, high=0.8), "log_loss": Interval(value=0.55)}
    return Cell(task=task, domain=domain, space="impressions", rows=1200, positives=300, metrics=metrics)


REPORT = Evaluation(
    model_digest="m",
    dataset_digest="d",
    split="test",
    rows=1200,
    window_start=NOW,
    window_end=NOW,
    confidence=0.95,
    resamples=10,
    provider="CPUExecutionProvider",
    tasks=("like", "love"),
    domains=("old", "young"),
    cells=tuple(cell(t, d, a) for t, d, a in [("like", "young", None), ("like", "all", 0.7654), ("love", "all", 0.71)]),
    calibration=(),
)
VERSION = RegisteredVersion(
    model="movielens_ranker",
    version=12,
    digest="a" * 64,
    model_uri="models:/m-1",
    ranker_digest="r",
    report_digest="e",
    created_at=NOW,
)
VERDICT = Verdict(
    model="movielens_ranker",
    challenger=12,
    champion=11,
    answer="promoted",
    reason="no cell lost more than its margin",
    judgements=(),
    rows=1200,
    dataset_digest="d",
    decided_at=NOW,
)
METRICS = SlotMetrics(auc=0.7, gauc=None, log_loss=0.6123, pcoc=1.0)
SLOT = SlotReport(
    slot=3,
    window=Window(start=NOW, end=NOW + timedelta(hours=1)),
    rows=500,
    stored=1000,
    empty=0.1,
    tasks={
        "like": TaskSlot(
            positives=100, weight=0.5, base=METRICS, compensated=METRICS.model_copy(update={"log_loss": 0.5987})
        )
    },
)


class Records:
    """Publishes artifacts as stages would."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings.at(home)
        self.staged = home / "staged"

    def stage(self, stage: str, kind: type[Artifact], files: dict[str, str], **more: object) -> StageResult:
        draft = self.staged / stage / "out"
        draft.mkdir(parents=True)
        for name, text in files.items():
            (draft / name).write_text(text)
        store = open_store(self.settings)
        record = store.publish(
            self.staged / stage,
            {"out": kind(uri=str(draft))},
            component=stage,
            component_version="1",
            key=f"key-{stage}",
            config_digest="",
            inputs={},
            explanation={},
            seconds=1,
            notes=[],
            annotations={},
        )
        values = {"cached": False, "seconds": 2.5, "notes": [f"note of {stage}"]} | more
        return StageResult.model_validate(
            {"stage": stage, "component": stage, "key": record.key, "outputs": record.outputs, **values}
        )


def printed(outcome: RunOutcome, settings: Settings) -> str:
    stream = io.StringIO()
    print_summary(outcome, settings, Console(file=stream, width=80))
    return stream.getvalue()


def outcome(results: list[StageResult], failure: Failure | None = None) -> RunOutcome:
    plan = load_plan(pipeline_path("movielens_daily"))
    return RunOutcome(plan, "run", Path("/runs/run"), 61.2, tuple(results), failure)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_a_whole_run_shows_figures_decision_and_places(records: Records) -> None:
    pages = {"report.json": REPORT.model_dump_json(), "report.html": "<html>"}
    results = [
        records.stage("contract", DataDocs, {"index.html": "<html>"}, cached=True),
        records.stage("evaluate_lr", EvaluationReport, pages),
        records.stage("evaluate_esmm", EvaluationReport, pages),
        records.stage("register", ModelVersion, {"version.json": VERSION.model_dump_json()}),
        records.stage("promote", Promotion, {"verdict.json": VERDICT.model_dump_json()}),
        records.stage("memory", ErrorMemory, {"slots.json": json.dumps([json.loads(SLOT.model_dump_json())])}),
    ]
    text = printed(outcome(results), records.settings)

    assert "6 of 9 stages done, 1 cached, 61 s" in text and "note of promote" in text
    assert "evaluate_lr: 1,200 rows" in text and "evaluate_esmm: 1,200 rows" in text
    like = [line for line in text.splitlines() if "like" in line and "all" in line]
    assert len(like) == 2 and "0.7654 [0.700, 0.800]" in like[0] and "0.5500" in like[0]
    young = next(line for line in text.splitlines() if "young" in line)
    assert "—" in young
    assert text.index("all") < text.index("young")
    assert "movielens_ranker version 12" in text
    flat = " ".join(text.split())
    assert "promoted: version 12 against champion 11 on 1,200 rows; no cell lost more than its margin" in flat
    slot = next(line for line in text.splitlines() if "0.6123" in line)
    assert "0.5987" in slot and "2026-01-02" in slot
    assert text.count("report.html") == 2 and "index.html" in text
    assert "rankmill models" in text and "make ui" in text


def test_a_failed_run_ends_with_its_sentence_what_is_left_and_the_log(records: Records) -> None:
    ingest = records.stage("ingest", DataDocs, {"index.html": "<html>"})
    text = printed(outcome([ingest], Failure("contract", "3 rows broke [rule]", 65)), records.settings)
    last = text.strip().splitlines()[-3:]
    assert last[0] == "contract failed: 3 rows broke [rule]"
    assert last[1].startswith("not run: features, dataset, train") and "ingest" not in last[1]
    assert last[2] == "log: /runs/run/run.log"


def test_brackets_in_what_stages_say_are_text_not_markup(records: Records) -> None:
    odd = VERDICT.model_copy(update={"reason": "pcoc outside [0.9, 1.1] [red]"})
    results = [
        records.stage("ingest", DataDocs, {"index.html": ""}, notes=["[bold]12 rows[/bold]"]),
        records.stage("promote", Promotion, {"verdict.json": odd.model_dump_json()}),
    ]
    text = printed(outcome(results), records.settings)
    assert "[bold]12 rows[/bold]" in text and "[0.9, 1.1] [red]" in text


def test_a_damaged_page_does_not_spoil_the_table(records: Records) -> None:
    result = records.stage("evaluate", EvaluationReport, {"report.json": REPORT.model_dump_json()})
    (Path(result.outputs["out"].uri.removeprefix("file://")) / "report.json").write_text("{")
    assert "note of evaluate" in printed(outcome([result]), records.settings)
