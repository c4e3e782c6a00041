"""Does a run's folder tell how it stands, whoever ran it and however it ended?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from features.ground.files import write_durably
from pipelines.cli import main as cli
from pipelines.record import runs
from pipelines.record.runs import RunEnd, RunStart, find_run, pin, recorded_runs, start_of

MOMENT = datetime(2026, 3, 1, 2, tzinfo=UTC)
STAGES = ("first", "second")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("RANKMILL_HOME", str(tmp_path))
    return Settings.at(tmp_path)


def scheduled(
    settings: Settings, run_id: str = "scheduled__1", pipeline: str = "toy", moment: datetime = MOMENT
) -> RunStart:
    start = RunStart(pipeline=pipeline, run_id=run_id, moment=moment, started_at=datetime.now(UTC), stages=STAGES)
    runs.write_start(settings, start)
    return start


def finish(settings: Settings, start: RunStart, stage: str) -> None:
    result = StageResult(stage=stage, component="x", key="k", cached=False, seconds=2, outputs={}, notes=[f"{stage}!"])
    write_durably(run_folder(settings, start.pipeline, start.run_id) / f"{stage}.json", result.model_dump_json())


def only(settings: Settings) -> runs.RecordedRun:
    (run,) = recorded_runs(settings)
    return run


def test_a_scheduled_run_is_judged_by_its_stages(settings: Settings) -> None:
    start = scheduled(settings)
    assert only(settings).state == "running"
    finish(settings, start, "first")
    runs.write_failure(settings, start, "second", "the gate refused it")
    assert (only(settings).state, only(settings).told) == ("failed", "the gate refused it")
    finish(settings, start, "second")  # cleared, and run again
    run = only(settings)
    assert (run.state, run.told, run.seconds) == ("success", "second!", 4)


def test_a_scheduled_run_of_which_nothing_is_heard_is_unfinished(settings: Settings) -> None:
    start = scheduled(settings)
    finish(settings, start, "first")
    long_ago = time.time() - 2 * 86_400
    for path in run_folder(settings, "toy", start.run_id).iterdir():
        os.utime(path, (long_ago, long_ago))
    assert only(settings).state == "unfinished"


def test_a_run_of_a_process_that_is_gone_was_killed(settings: Settings) -> None:
    code = (
        "import os, signal, sys, pathlib, datetime\n"
        "from components.platform.settings import Settings\nfrom pipelines.record import runs\n"
        "s = Settings.at(pathlib.Path(sys.argv[1]))\n"
        "runs.write_start(s, runs.start_of('toy', 'r', datetime.datetime.now(datetime.UTC), ('first',), {}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(settings.home)], check=False, cwd=Path(__file__).parents[4])
    assert done.returncode == -9
    assert only(settings).state == "killed"


def test_a_live_run_is_running_and_its_number_may_come_again(settings: Settings) -> None:
    start = start_of("toy", "r", MOMENT, STAGES, {"count": 3}, "--from second")
    runs.write_start(settings, start)
    assert only(settings).state == "running"
    assert not start.model_copy(update={"process_started": (start.process_started or 0) - 60}).is_alive
    runs.write_end(
        settings, start, RunEnd(state="failed", seconds=7, failed="second", message="no", again="rankmill …")
    )
    run = only(settings)
    assert (run.state, run.seconds, run.told) == ("failed", 7, "no")


def test_an_unreadable_record_hides_no_other(settings: Settings) -> None:
    scheduled(settings)
    broken = run_folder(settings, "toy", "broken")
    broken.mkdir()
    (broken / runs.START).write_text("{")
    assert [run.start.run_id for run in recorded_runs(settings)] == ["scheduled__1"]


def test_runs_are_listed_newest_first_and_as_json(settings: Settings) -> None:
    assert "nothing has run yet" in CliRunner().invoke(cli.app, ["runs"]).output
    for number in range(3):
        finish(settings, scheduled(settings, f"run{number}"), "first")
    scheduled(settings, pipeline="other")
    listed = CliRunner().invoke(cli.app, ["runs", "toy", "-n", "2"]).output
    assert listed.count("toy") == 2 and "1 of 2" in listed and "first!" in listed
    value = json.loads(CliRunner().invoke(cli.app, ["runs", "--json"]).output)
    assert [run["run_id"] for run in value] == ["scheduled__1", "run2", "run1", "run0"]
    assert value[1]["finished"] == [{"stage": "first", "seconds": 2.0, "cached": False}]
    assert isinstance(CliRunner().invoke(cli.app, ["runs", "tyo"]).exception, MissingError)


def test_a_run_is_pinned_by_a_part_of_its_id(settings: Settings) -> None:
    for number in range(2):
        scheduled(settings, f"run{number}")
    assert CliRunner().invoke(cli.app, ["runs", "toy", "--pin", "1"]).exit_code == 0
    assert [run.pinned for run in recorded_runs(settings)] == [True, False]
    assert isinstance(CliRunner().invoke(cli.app, ["runs", "--pin", "1"]).exception, BadInputError)
    with pytest.raises(MissingError, match="2 runs"):
        find_run(settings, "toy", "run")
    pin(find_run(settings, "toy", "run1"), keep=False)
    assert not any(run.pinned for run in recorded_runs(settings))


def test_a_run_is_found_by_the_day_or_time_that_it_is_for(settings: Settings) -> None:
    for day in (1, 2):
        scheduled(settings, f"manual__2026-05-0{day}", moment=MOMENT.replace(day=day))
    late = datetime(2026, 3, 2, 23, 30, tzinfo=timezone(timedelta(hours=-1)))  # in UTC it is the next day
    scheduled(settings, "manual__2026-03-01", moment=late)
    assert find_run(settings, "toy", "2026-03-02").start.run_id == "manual__2026-05-02"
    assert find_run(settings, "toy", "2026-03-03").start.run_id == "manual__2026-03-01"
    assert find_run(settings, "toy", "2026-03-02T02:00").start.run_id == "manual__2026-05-02"
    assert find_run(settings, "toy", "manual__2026-03-01").start.moment == late
    with pytest.raises(MissingError, match=r"2 runs .*manual__2026-0.-01 \(.*, manual__2026-0.-01 \(") as both:
        find_run(settings, "toy", "2026-03-01")
    assert str(both.value).count("for 2026-03-0") == 2 and "\n" not in str(both.value)
    for absent in ("2026-03-01T03:00", "yesterday"):
        with pytest.raises(MissingError, match="no run for"):
            find_run(settings, "toy", absent)
    told = CliRunner().invoke(cli.app, ["runs", "toy", "--at", "2026-03-02", "--json"]).output
    assert [run["run_id"] for run in json.loads(told)] == ["manual__2026-05-02"]
    assert "no run is for 2026-03-09" in CliRunner().invoke(cli.app, ["runs", "--at", "2026-03-09"]).output
    assert isinstance(CliRunner().invoke(cli.app, ["runs", "--at", "soon"]).exception, BadInputError)
    assert CliRunner().invoke(cli.app, ["runs", "toy", "--pin", "2026-03-02"]).exit_code == 0
    assert [run.start.run_id for run in recorded_runs(settings) if run.pinned] == ["manual__2026-05-02"]
