"""Is a run that Airflow calls a success, although stages gave no result, told as a failure?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.language.check import load_plan
from pipelines.run.run import _unfinished


@pytest.mark.parametrize(
    ("missing", "said"),
    [(0, None), (1, "ran all stages but contract:"), (2, "ran no stage:")],
)
def test_every_stage_gives_a_result_or_the_run_failed(missing: int, said: str | None, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "name: two\nwindow: {days: 7}\nstages:\n  ingest: {uses: ingest_household}\n"
        "  contract: {uses: validate_data, in: {table: ingest.events}, with: {suite: household_events}}\n",
        encoding="utf-8",
    )
    plan = load_plan(file)
    names = [stage.name for stage in plan.stages]
    results: dict[str, Any] = dict.fromkeys(names[: len(names) - missing])
    failure = _unfinished(plan, results)
    if said is None:
        assert failure is None
    else:
        assert failure is not None and said in failure.message and failure.exit_code == 1
