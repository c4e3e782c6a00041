"""How does a test run one stage on artifacts that it published? Here, or in a process of its own that can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from pipelines.language.check import load_plan
from pipelines.language.plan import Plan
from pipelines.run.task import Attempt, request_of

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))


ROOT = Path(__file__).resolve().parents[1]
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
settings = replace(Settings.at(Path(sys.argv[1])), ray_address=sys.argv[2] or None)
execute(StageRequest.model_validate_json(sys.stdin.read()), settings=settings)
"""


def run_pipeline(file: Path, settings: Settings, window: Window) -> dict[str, StageResult]:
    """Run every stage of a pipeline file in this process and return the results by stage."""
    plan = load_plan(file)
    done: dict[str, StageResult] = {}
    for stage in plan.stages:
        done[stage.name] = run_planned(plan, stage.name, done, settings, window)
    return done


def run_before(plan: Plan, stage: str, settings: Settings, window: Window) -> dict[str, StageResult]:
    """Run the stages of a plan that come before one, in this process, and return their results by stage."""
    done: dict[str, StageResult] = {}
    for one in plan.stages:
        if one.name == stage:
            break
        done[one.name] = run_planned(plan, one.name, done, settings, window)
    return done


def run_planned(
    plan: Plan, name: str, done: Mapping[str, StageResult], settings: Settings, window: Window
) -> StageResult:
    """Run one stage of a plan in this process as a task of its DAG would, after those in `done`."""
    attempt = Attempt(plan=plan, stage=plan.stage(name), run_id="manual", conf={}, moment=window.end, upstream=done)
    return execute(request_of(attempt).model_copy(update={"window": window}), settings)


def start_stage(settings: Settings, request: StageRequest) -> subprocess.Popen[bytes]:
    """Start a stage in a process of its own, as a scheduler's task would."""
    command = [sys.executable, "-c", RUN, str(settings.home), settings.ray_address or ""]
    stage = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    assert stage.stdin is not None
    stage.stdin.write(request.model_dump_json().encode())
    stage.stdin.close()
    return stage


def run_stage(
    settings: Settings, component: str, config: dict[str, Any], cache: bool = True, **inputs: ArtifactRef
) -> StageResult:
    """Run a component as the stage of its name in the pipeline `shop`."""
    request = StageRequest(
        component=component,
        config=config,
        inputs=inputs,
        window=WINDOW,
        pipeline="shop",
        stage=component,
        cache="all" if cache else "off",
    )
    return execute(request, settings=settings)
