"""Does the table of costs add up what runs took, and what the cache saved?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from features.ground.files import write_durably
from pipelines.cli import main as cli
from pipelines.record import runs
from pipelines.record.cost import cost_of
from pipelines.record.runs import RecordedRun, RunStart

MOMENT = datetime(2026, 3, 1, 2, tzinfo=UTC)


def result(stage: str = "train", **values: object) -> StageResult:
    defaults = {"component": "x", "key": "k", "cached": False, "seconds": 1.0, "outputs": {}, "notes": []}
    return StageResult.model_validate(defaults | {"stage": stage} | values)


def run(*results: StageResult, number: int = 0) -> RecordedRun:
    start = RunStart(
        pipeline="toy", run_id=f"r{number}", moment=MOMENT, started_at=MOMENT + timedelta(hours=number),
        stages=("ingest", "train"),
    )  # fmt: skip
    return RecordedRun(start, Path(), results, "success", 0.0, "", pinned=False)


def test_each_stage_is_told_for_itself() -> None:
    newest = run(result("ingest", seconds=2, rows=50, peak_bytes=7), result(cached=True, seconds=1, made_seconds=41.0))
    middle = run(result("ingest", seconds=9, rows=40, peak_bytes=9), result(seconds=41, made_seconds=41.0))
    oldest = run(result("ingest", seconds=4))
    cost = cost_of("toy", (newest, middle, oldest))
    ingest, train = cost.stages
    assert (ingest.ran, ingest.cached, ingest.seconds, ingest.longest) == (3, 0, 4, 9)
    assert (ingest.peak_bytes, ingest.rows, ingest.saved) == (9, 50, 0)
    assert (train.ran, train.cached, train.seconds, train.saved, train.peak_bytes) == (1, 1, 41, 40, None)
    assert (cost.runs, cost.spent, cost.saved) == (3, 57, 40)


@given(
    st.lists(
        st.builds(
            result,
            cached=st.booleans(),
            seconds=st.floats(0, 1e6),
            made_seconds=st.none() | st.floats(0, 1e6),
            peak_bytes=st.none() | st.integers(0, 2**50),
        ),
        max_size=12,
    )
)
def test_nothing_is_counted_twice_and_nothing_saved_is_negative(results: list[StageResult]) -> None:
    cost = cost_of("toy", [run(one) for one in results])
    assert sum(stage.ran + stage.cached for stage in cost.stages) == len(results) == cost.runs
    assert cost.spent == pytest.approx(sum(one.seconds for one in results))
    assert all(stage.saved >= 0 and (stage.cached or not stage.saved) for stage in cost.stages)
    for stage in cost.stages:
        assert (stage.seconds is None) == (stage.ran == 0)
        assert stage.seconds is None or stage.longest is None or stage.seconds <= stage.longest


def test_the_command_counts_the_newest_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKMILL_HOME", str(tmp_path))
    settings = Settings.at(tmp_path)
    for number in range(3):
        start = run(number=number).start
        runs.write_start(settings, start)
        done = result(seconds=10.0**number, rows=1234, peak_bytes=5 << 20)
        write_durably(run_folder(settings, "toy", start.run_id) / "train.json", done.model_dump_json())
    shown = CliRunner().invoke(cli.app, ["cost", "toy", "--runs", "2"]).output
    assert "2 runs: 110.0 s spent, 0.0 s saved" in shown and "1,234" in shown
    told = json.loads(CliRunner().invoke(cli.app, ["cost", "toy", "--json"]).output)
    assert (told["spent"], told["stages"][0]["peak_bytes"], told["stages"][0]["ran"]) == (111.0, 5 << 20, 3)
