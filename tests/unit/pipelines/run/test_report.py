"""Does a run's page tell what happened and why, whole in itself, and never as anything but text?"""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.platform.artifacts import DataDocs, EvaluationReport, Promotion, Ranker
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from features.ground.files import write_durably
from pipelines.cli import main as cli
from pipelines.language.params import resolve_window
from pipelines.language.plan import Plan, due
from pipelines.language.spec import ParamSpec
from pipelines.record import runs
from pipelines.record.runs import RecordedRun, read_run
from pipelines.run.task import Attempt, leave_out, run_stage
from pipelines.show.pages import report
from tests.unit.pipelines.run import test_task
from tests.unit.pipelines.run.test_summary import REPORT, VERDICT, Records
from tests.unit.pipelines.run.test_task import MOMENT

plan = test_task.plan
NASTY = "<script>alert('1 & 2')</script>"


class Page(HTMLParser):
    """Tags, words, and rows of the table of stages."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.classes: set[str] = set()
        self.outside: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.classes.add(given.get("class") or "")
        if "src" in given and not (given["src"] or "").startswith("data:"):
            self.outside.append(given["src"] or "")
        if tag == "tr":
            self.rows.append([])
        if tag == "td" and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += " ".join(data.split()) + " "

    def row(self, stage: str) -> list[str]:
        (found,) = [row for row in self.rows if row and row[0].split()[0] == stage]
        return [" ".join(cell.split()) for cell in found]


def run_all(plan: Plan, settings: Settings, run_id: str, **conf: Any) -> RecordedRun:
    done: dict[str, StageResult] = {}
    for stage in plan.stages:
        done[stage.name] = run_stage(Attempt(plan, stage, run_id, conf, MOMENT, done), settings)
    run = read_run(run_folder(settings, plan.name, run_id))
    assert run is not None
    return run


def page_of(run: RecordedRun, plan: Plan | None, settings: Settings) -> Page:
    text = report.write_report(run, plan, settings).read_text()
    page = Page(text)
    assert page.outside == [] and not {"script", "link", "iframe", "a"} & {*page.tags}
    return page


def test_it_says_what_ran_and_why(plan: Plan, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    first = page_of(run_all(plan, settings, "one"), plan, settings)
    assert first.row("numbers")[1:4] == ["done", first.row("numbers")[2], "it had never run"]
    assert float(first.row("numbers")[2]) >= 0 and "4 numbers" in first.row("numbers")[4]

    second = page_of(run_all(plan, settings, "two"), plan, settings)
    assert second.row("numbers")[1] == "cached" and "nothing changed since" in second.row("numbers")[3]
    assert "by adding.numbers" in second.row("numbers")[3]
    assert second.row("total")[3] == "its result is never taken from the store"

    told = replace(plan, spec=plan.spec.model_copy(update={"description": "Adds up."}))
    third = page_of(run_all(plan, settings, "three", count=7), told, settings)
    assert third.row("numbers")[1:4:2] == ["done", "config count: 4 → 7"]
    assert "flow" in third.classes and "count" in third.words and "count" not in second.words
    assert str(resolve_window(plan.spec, {"count": 7}, MOMENT)) in third.words and "Adds up." in third.words


def test_a_run_says_which_stages_its_params_skip(plan: Plan, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    switch = ParamSpec.model_validate({"type": "boolean", "default": False})
    spec = plan.spec.model_copy(update={"params": {**plan.spec.params, "full": switch}})
    last = plan.stages[-1]
    whole = replace(plan, spec=spec, stages=(*plan.stages[:-1], replace(last, when="full")))
    done: dict[str, StageResult] = {}
    for stage in due(whole, {"full": False}).stages:
        done[stage.name] = run_stage(Attempt(whole, stage, "one", {}, MOMENT, done), settings)
    run = read_run(run_folder(settings, plan.name, "one"))
    assert run is not None and run.state == "success" and run.start.skipped == {last.name: "full"}
    row = page_of(run, whole, settings).row(last.name)
    assert (row[1], row[3]) == ("skipped", "skipped: full is false") and {*done} == {s.name for s in plan.stages[:-1]}
    assert run_all(whole, settings, "two", full=True).start.skipped == {}


def test_a_run_says_which_stages_a_verdict_skipped_until_they_run(plan: Plan, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    first, last = plan.stages[0], plan.stages[-1]
    heeding = replace(last, when=f"{first.name}.numbers", upstream=(first.name,))
    whole = replace(plan, stages=(first, heeding))
    done = {first.name: run_stage(Attempt(whole, first, "one", {}, MOMENT, {}), settings)}
    leave_out(Attempt(whole, heeding, "one", {}, MOMENT, done), heeding.when, settings)
    run = read_run(run_folder(settings, plan.name, "one"))
    assert run is not None and (run.state, run.start.stages) == ("success", (first.name,))
    row = page_of(run, whole, settings).row(last.name)
    assert (row[1], row[3]) == ("skipped", f"skipped: {first.name}.numbers says nothing new")
    run_stage(Attempt(whole, replace(heeding, when=""), "one", {}, MOMENT, done), settings)
    again = read_run(run_folder(settings, plan.name, "one"))
    assert again is not None and again.start.skipped == {} and again.start.stages == (first.name, last.name)


def test_a_failed_run_says_where_and_how_to_go_on(plan: Plan, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    start = runs.start_of(plan.name, "bad", MOMENT, tuple(stage.name for stage in plan.stages), {"text": NASTY})
    runs.write_start(settings, start)
    runs.write_failure(settings, start, "numbers", f"the store said {NASTY}")
    said = f"the store said {NASTY}"
    end = runs.RunEnd(state="failed", seconds=3, failed="numbers", message=said, again="rankmill run adding")
    runs.write_end(settings, start, end)
    run = read_run(run_folder(settings, plan.name, "bad"))
    assert run is not None
    page = page_of(run, plan, settings)
    assert page.row("numbers")[1] == "failed" and page.row("numbers")[4] == f"the store said {NASTY}"
    assert page.row("total")[1] == "not run"
    assert "rankmill run adding" in page.words and NASTY in page.words

    kept = run.folder / "numbers" / "verdict.html"
    kept.parent.mkdir()
    kept.write_text(f"<title>x</title><p>the gate's own words {NASTY}")
    assert "the gate's own words " in page_of(run, plan, settings).words


def test_pages_and_pictures_of_stages_are_inside_it(tmp_path: Path) -> None:
    records = Records(tmp_path)
    inner = f"<html><head><style>x</style></head><body>{NASTY}<table><td class='one'>found</body></html>"
    results = [
        records.stage("contract", DataDocs, {"index.html": inner}),
        records.stage("evaluate", EvaluationReport, {"report.json": REPORT.model_dump_json(), "report.html": inner}),
        records.stage("promote", Promotion, {"verdict.json": VERDICT.model_dump_json(), "verdict.html": "<p>gate"}),
        records.stage("train", Ranker, {"curves.png": "not a picture, but bytes"}, notes=[NASTY]),
    ]
    start = runs.start_of("toy", "r", MOMENT, tuple(result.stage for result in results), {})
    folder = run_folder(records.settings, "toy", "r")
    runs.write_start(records.settings, start)
    for result in results:
        write_durably(folder / f"{result.stage}.json", result.model_dump_json())
    run = read_run(folder)
    assert run is not None
    page = page_of(run, None, records.settings)
    assert page.words.count("found") == 2 and "gate" in page.words and "one" in page.classes
    assert page.tags.count("img") == 1 and "flow" not in page.classes and page.tags.count("style") == 1
    assert "promoted" in page.words and "0.7654" in page.words and "[0.700, 0.800]" in page.words
    assert "0.55" not in page.words, "young is a domain; the page shows all of them together"
    assert page.row("train")[4].startswith(NASTY)


def test_a_report_of_another_shape_costs_its_figures_not_the_page(tmp_path: Path) -> None:
    records = Records(tmp_path)
    files = {"report.json": '{"of": "an older release"}', "report.html": "<table><td>old figures"}
    result = records.stage("evaluate", EvaluationReport, files)
    runs.write_start(records.settings, runs.start_of("toy", "r", MOMENT, ("evaluate",), {}))
    folder = run_folder(records.settings, "toy", "r")
    write_durably(folder / "evaluate.json", result.model_dump_json())
    run = read_run(folder)
    assert run is not None
    page = page_of(run, None, records.settings)
    assert "old figures" in page.words and page.row("evaluate")[1] == "done"


def test_a_scheduled_run_gets_its_page_when_its_last_stage_has_ended(
    plan: Plan,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings.at(tmp_path / "home")
    path = run_folder(settings, plan.name, "s") / runs.REPORT
    numbers = run_stage(Attempt(plan, plan.stage("numbers"), "s", {}, MOMENT, {}), settings)
    report.report_when_ended(plan, "s", settings)
    assert not path.exists(), "another stage is to come"
    run_stage(Attempt(plan, plan.stage("total"), "s", {}, MOMENT, {"numbers": numbers}), settings)
    report.report_when_ended(plan, "s", settings)
    assert "success" in path.read_text()

    path.unlink()
    path.mkdir()
    report.report_when_ended(plan, "s", settings)
    assert "the report of run s was not written" in caplog.text


def test_the_command_line_writes_and_finds_pages(
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANKMILL_HOME", str(tmp_path / "home"))
    settings = Settings.at(tmp_path / "home")
    run = run_all(plan, settings, "scheduled__1")
    ask = CliRunner().invoke
    assert "newest report" not in ask(cli.app, ["runs", "adding"]).output
    said = ask(cli.app, ["runs", "adding", "--report", "scheduled"]).output.strip()
    assert said == str(run.folder / "report.html") and Path(said).exists()
    assert f"newest report: {said}" in ask(cli.app, ["runs", "adding"]).output
    assert said in ask(cli.app, ["runs", "--json"]).output

    drawn = tmp_path / "graph.html"
    shown = ask(cli.app, ["graph", str(plan.path), "--html", str(drawn), "--run", "scheduled"])
    assert shown.exit_code == 0, shown.output
    text = drawn.read_text()
    assert "Run scheduled__1: success" in " ".join(Page(text).words) and "flow" in Page(text).classes
    refused = ask(cli.app, ["graph", str(plan.path), "--run", "scheduled"])
    assert "--html" in str(refused.exception)


def test_the_plan_of_another_pipeline_is_not_drawn(plan: Plan, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    run = run_all(plan, settings, "r")
    assert report.plan_of(run) is None, "no file of this name is where pipelines lie"
