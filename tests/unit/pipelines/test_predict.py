"""Does the plan foretell what a run then does: hit, miss, key and reason?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components import execute as execution
from components.contract import ComponentSpec
from components.execute import StageRequest, StageResult, execute
from components.settings import Settings
from pipelines.check import resolve_config, resolve_window
from pipelines.plan import Plan, PlannedStage, Wire
from pipelines.predict import Prediction, predict
from pipelines.render import as_json, summary
from pipelines.spec import PipelineSpec
from tests.example_component import ADD, COUNT

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def stage(name: str, component: ComponentSpec, config: dict[str, Any], reads: str = "", **kw: Any) -> PlannedStage:
    wires = (Wire("numbers", reads, "numbers"),) if reads else ()
    upstream = (reads,) if reads else ()
    common = {"group": None, "retries": 0, "retry_delay": timedelta(0), "timeout": None, "cache": "all", "line": 1}
    return PlannedStage(name, component, config, wires, upstream, **{**common, **kw})


def plan_of(*stages: PlannedStage) -> Plan:
    spec = {
        "name": "toy",
        "window": {"days": 1},
        "params": {"count": {"type": "integer", "default": 3}},
        "stages": {planned.name: {"uses": planned.component.name} for planned in stages},
    }
    return Plan(PipelineSpec.model_validate(spec), Path("toy.yaml"), stages)


CHAIN = plan_of(
    stage("make", COUNT, {"count": "${params.count}"}), stage("sum", ADD, {}, "make"), stage("again", ADD, {}, "sum")
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    known = {spec.name: spec for spec in (COUNT, ADD)}
    monkeypatch.setattr(execution, "component", known.__getitem__)
    return Settings.at(tmp_path)


def run(plan: Plan, params: dict[str, Any], settings: Settings) -> dict[str, StageResult]:
    """Run a plan stage by stage, as its DAG does."""
    results: dict[str, StageResult] = {}
    for planned in plan.stages:
        request = StageRequest(
            component=planned.component.name,
            config=resolve_config(planned, params),
            inputs={wire.input: results[wire.stage].outputs[wire.output] for wire in planned.wires},
            window=resolve_window(plan.spec, params, NOW),
            pipeline=plan.name,
            stage=planned.name,
            run_id="run",
            cache=planned.cache,
        )
        results[planned.name] = execute(request, settings)
    return results


def states(predictions: tuple[Prediction, ...]) -> list[str]:
    return [prediction.state for prediction in predictions]


def test_what_is_foretold_comes_true(settings: Settings) -> None:
    seen = []
    for count in (3, 3, 4, 3, 4):
        foretold = predict(CHAIN, {"count": count}, NOW, settings)
        done = run(CHAIN, {"count": count}, settings)
        for prediction in foretold:
            if prediction.key is not None:
                assert prediction.key == done[prediction.stage].key
                assert (prediction.state == "hit") == done[prediction.stage].cached
        seen.append(states(foretold))
    fresh, warm = ["miss", "runs", "runs"], ["hit", "hit", "hit"]
    assert seen == [fresh, warm, fresh, warm, warm]


def test_nothing_is_run_or_written(settings: Settings) -> None:
    predict(CHAIN, {"count": 3}, NOW, settings)
    assert not settings.home.exists() or list(settings.home.iterdir()) == []


def test_a_miss_says_what_changed_and_how_long_it_took(settings: Settings) -> None:
    first, *_ = predict(CHAIN, {"count": 3}, NOW, settings)
    assert first.why == "the store has no earlier result" and first.seconds is None
    run(CHAIN, {"count": 3}, settings)
    first, second, _ = predict(CHAIN, {"count": 9}, NOW, settings)
    assert first.why.startswith("config.count ") and first.seconds is not None
    assert second.why == "it reads make.numbers, made anew before it"


def test_the_most_similar_earlier_run_is_compared_not_only_the_newest(settings: Settings) -> None:
    run(CHAIN, {"count": 3}, settings)
    other = plan_of(stage("make", COUNT, {"count": 5, "marker": str(settings.home / "marker")}))
    run(other, {}, settings)
    first, *_ = predict(CHAIN, {"count": 4}, NOW, settings)
    assert "config.count" in first.why and "config.marker" not in first.why


def test_a_stage_with_its_cache_off_and_an_uncacheable_component_always_run(settings: Settings) -> None:
    plan = plan_of(stage("make", COUNT, {}, cache="off"), stage("sum", replace(ADD, cacheable=False), {}, "make"))
    run(plan_of(stage("make", COUNT, {}), stage("sum", ADD, {}, "make")), {}, settings)
    found = predict(plan, {}, NOW, settings)
    assert states(found) == ["runs", "runs"]
    assert found[0].why == "its cache is off" and "always runs" in found[1].why
    assert all(prediction.key is None and prediction.seconds is not None for prediction in found)


def refuses(outputs: Any, config: Any, settings: Settings) -> str:
    """A recheck that finds its result gone from the world outside."""
    return f"the online store no longer has {config.count} rows"


def test_a_result_that_no_longer_holds_outside_is_a_miss(settings: Settings) -> None:
    run(plan_of(stage("make", COUNT, {})), {}, settings)
    rechecked = replace(COUNT, recheck=f"{__name__}:refuses")
    (found,) = predict(plan_of(stage("make", rechecked, {})), {}, NOW, settings)
    assert (found.state, found.why) == ("miss", "the online store no longer has 3 rows")


def test_the_window_counts_only_where_it_is_read(settings: Settings) -> None:
    windowed = plan_of(stage("make", replace(COUNT, windowed=True), {}))
    plain = plan_of(stage("make", COUNT, {}))
    keys = [[predict(p, {}, NOW + timedelta(days=d), settings)[0].key for d in (0, 1)] for p in (windowed, plain)]
    assert keys[0][0] != keys[0][1]
    assert keys[1][0] == keys[1][1]


def test_the_summary_and_the_json_tell_the_same(settings: Settings) -> None:
    run(CHAIN, {"count": 3}, settings)
    found = predict(CHAIN, {"count": 3}, NOW, settings)
    assert summary(found) == "3 of 3 stages come from the cache; 0 would run."
    shown = as_json(CHAIN, found)["stages"]
    assert [entry["prediction"]["state"] for entry in shown] == ["hit", "hit", "hit"]
    assert summary(predict(CHAIN, {"count": 4}, NOW, settings)).startswith("0 of 3 stages come from the cache; 3 would")
