"""Does a data stage stay within its memory as its window grows, and publish the same whatever it holds at once?

Memory is the highest of the whole process, as /proc tells: mapped files and libraries included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import stage_memory
from tests.benchmarks.judge_stages import JUDGES, judged, prepared
from tests.benchmarks.lab import Lab
from tests.benchmarks.stage_memory import DAYS, DEFINITIONS, PIPELINE, STAGES, START, staged, write_log

ROWS, AT_ONCE = 500_000, 50_000
SMALL = 1024
"""MiB of the whole process at `ROWS` rows, whatever the stage. Libraries are most of it, and differ with the number of
cores and threads; what rows take is told by `test_many_rows`."""


def world(folder: Path, rows: int) -> Path:
    write_log(folder, rows)
    pipeline = PIPELINE.format(days=DAYS, end=START + timedelta(days=DAYS))
    (folder / "stage_memory.yaml").write_text(pipeline, encoding="utf-8")
    (folder / "shop.py").write_text(DEFINITIONS, encoding="utf-8")
    return folder


def all_stages(runs: list[tuple[str, int]]) -> Iterator[None]:
    """Run every stage in one process, in each folder so many rows at once; return by stage its memory and digests."""
    import os

    from components.platform.settings import Settings
    from features.declaration import Window
    from pipelines.language.check import load_plan
    from tests.benchmarks.child import memory
    from tests.stages import run_planned

    window, found = Window(start=START, end=START + timedelta(days=DAYS)), []
    yield
    for folder, at_once in runs:
        os.environ["RANKMILL_ROWS_AT_ONCE"] = str(at_once)
        plan = load_plan(Path(folder) / "stage_memory.yaml")
        settings = Settings.at(Path(folder) / f"home{at_once}")
        done: dict[str, Any] = {}
        told = {}
        for stage in STAGES:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            done[stage] = run_planned(plan, stage, done, settings, window)
            told[stage] = (memory("VmHWM"), {name: ref.digest for name, ref in done[stage].outputs.items()})
        found.append(told)
    yield
    return found  # type: ignore[return-value]  # tests.benchmarks.child reads it


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[float, dict[str, str]]]]:
    """Half a million rows, then few rows in few and in many parts: one process, as what it imports costs most."""
    large, small = (tmp_path_factory.mktemp(name) for name in ("large", "small"))
    wanted = [(large, AT_ONCE), (small, 10_000), (small, 700)]
    world(large, ROWS)
    world(small, 3_000)
    lab = Lab(quick=True, work=large)
    cost = lab.child(all_stages, 280, runs=[(str(folder), at_once) for folder, at_once in wanted])
    assert cost is not None
    return list(cost.value)


def test_half_a_million_rows(runs: list[dict[str, tuple[float, dict[str, str]]]]) -> None:
    memory = {stage: mib for stage, (mib, _) in runs[0].items()}
    assert max(memory.values()) <= SMALL, memory


def test_what_is_held_at_once_changes_nothing(runs: list[dict[str, tuple[float, dict[str, str]]]]) -> None:
    few, many = ({stage: digests for stage, (_, digests) in run.items()} for run in runs[1:])
    assert few == many


@pytest.mark.scale
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("rows", stage_memory.LIMITS)
def test_many_rows(rows: int, tmp_path: Path) -> None:
    lab, folder = Lab(quick=False, work=tmp_path), world(tmp_path, rows)
    memory = {}
    for stage in STAGES:
        cost = lab.child(staged, 3600, folder=str(folder), stage=stage)
        assert cost is not None
        memory[stage] = cost.value["whole"]
    lab.child(prepared, 3600, folder=str(folder))
    for stage in JUDGES:
        cost = lab.child(judged, 3600, folder=str(folder), stage=stage)
        assert cost is not None
        memory[stage] = cost.value["whole"]
    assert all(mib <= stage_memory.LIMITS[rows] for mib in memory.values()), memory
