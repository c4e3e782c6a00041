"""Does a run say what it did with rows: left outside the window, contradicting each other, cut out of requests?

Asked of the notes that the stages publish, which are what a run's table shows, not of the functions that count.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from features.declaration import Window

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 3, tzinfo=UTC))
IMPRESSIONS = """uid,article,shown_at,session,clicked,price
u1,a,2025-12-31 23:59:59,s0,0,1
u1,a,2026-01-01 10:00:00,s1,1,5
u1,b,2026-01-01 10:00:00,s1,0,-1
u1,c,2026-01-01 10:00:00,s1,0,-2
u2,a,2026-01-02 10:00:00,s2,0,5
u2,a,2026-01-02 10:00:01,s2,1,5
u2,b,2026-01-02 10:00:00,s3,0,-3
u2,a,2026-01-03 00:00:00,s4,0,5
u2,b,2026-01-09 00:00:00,s5,0,5
"""
SUITE = """description: Prices are positive.
max_quarantined: 0.9
expectations:
  - expect: expect_column_values_to_be_between
    column: price
    min_value: 0
    action: quarantine
    why: Nothing is given away.
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, StageResult]:
    """Ingestion, and the contract on what it published."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "events.csv").write_text(IMPRESSIONS, encoding="utf-8")
    (folder / "prices.yaml").write_text(SUITE, encoding="utf-8")
    settings = Settings.at(folder / "home")
    config = {
        "files": str(folder / "events.csv"), "user": "uid", "item": "article", "timestamp": "shown_at",
        "request": "session", "feedback": {"click": "clicked"}, "columns": {"price": "float64"},
    }  # fmt: skip
    ingested = execute(StageRequest(component="ingest_table", config=config, window=WINDOW), settings)
    request = StageRequest(
        component="validate_data",
        config={"suite": str(folder / "prices.yaml")},
        inputs={"table": ingested.outputs["events"]},
        window=WINDOW,
    )
    return ingested, execute(request, settings)


def test_rows_outside_the_window_are_counted(results: tuple[StageResult, StageResult]) -> None:
    assert "3 rows outside the window left out" in results[0].notes


def test_rows_that_contradict_each_other_are_counted(results: tuple[StageResult, StageResult]) -> None:
    assert "1 rows differ from another one of the same request and item" in results[0].notes


def test_requests_that_the_quarantine_takes_whole_are_counted(results: tuple[StageResult, StageResult]) -> None:
    """Of `s1` two rows of three break a rule; of `s3` all do."""
    assert "1 requests went aside whole, with 1 rows that break no rule" in results[1].notes


def test_a_cached_stage_says_the_same(results: tuple[StageResult, StageResult], tmp_path: Path) -> None:
    """Notes are kept with the artifact: the second run of a day tells them as the first did."""
    (tmp_path / "events.csv").write_text(IMPRESSIONS, encoding="utf-8")
    config = {
        "files": str(tmp_path / "events.csv"), "user": "uid", "item": "article", "timestamp": "shown_at",
        "feedback": {"click": "clicked"},
    }  # fmt: skip
    request = StageRequest(component="ingest_table", config=config, window=WINDOW)
    first, second = (execute(request, Settings.at(tmp_path / "home")) for _ in range(2))
    assert second.cached and second.notes == first.notes and "3 rows outside the window left out" in second.notes
