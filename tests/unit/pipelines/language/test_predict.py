"""Does the plan foretell what a run then does: hit, miss, key and reason?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.platform import cache
from components.platform import execute as execution
from components.platform.contract import ComponentSpec
from components.platform.errors import MissingError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.sources import source_files
from components.platform.store.publish import open_store
from pipelines.language.params import resolve_config, resolve_window
from pipelines.language.plan import Plan, PlannedStage, Prediction, Selection, Wire, refuse_missing, select
from pipelines.language.spec import PipelineSpec
from pipelines.run import predict as predicting
from pipelines.run.predict import predict
from pipelines.show.render import as_json, summary
from tests.example_component import ADD, COUNT

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def stage(name: str, component: ComponentSpec, config: dict[str, Any], reads: str = "", **kw: Any) -> PlannedStage:
    wires = (Wire("numbers", reads, "numbers"),) if reads else ()
    upstream = (reads,) if reads else ()
    common = {"group": None, "retries": 0, "retry_delay": timedelta(0), "timeout": None, "cache": "all"}
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
            start=planned.start,
        )
        results[planned.name] = execute(request, settings)
    return results


def foretell(plan: Plan, params: dict[str, Any], settings: Settings, now: datetime = NOW) -> tuple[Prediction, ...]:
    return predict(plan, params, now, settings).predictions


def states(predictions: tuple[Prediction, ...]) -> list[str]:
    return [prediction.state for prediction in predictions]


def test_what_is_foretold_comes_true(settings: Settings) -> None:
    seen = []
    for count in (3, 3, 4, 3, 4):
        foretold = foretell(CHAIN, {"count": count}, settings)
        done = run(CHAIN, {"count": count}, settings)
        for prediction in foretold:
            if prediction.key is not None:
                assert prediction.key == done[prediction.stage].key
                assert (prediction.state == "hit") == done[prediction.stage].cached
        seen.append(states(foretold))
    fresh, warm = ["miss", "runs", "runs"], ["hit", "hit", "hit"]
    assert seen == [fresh, warm, fresh, warm, warm]


def test_nothing_is_run_or_written(settings: Settings) -> None:
    foretell(CHAIN, {"count": 3}, settings)
    assert not settings.home.exists() or list(settings.home.iterdir()) == []


def test_a_miss_says_what_changed_and_how_long_it_took(settings: Settings) -> None:
    first, *_ = foretell(CHAIN, {"count": 3}, settings)
    assert first.why == "it has never run" and first.seconds is None
    run(CHAIN, {"count": 3}, settings)
    first, second, _ = foretell(CHAIN, {"count": 9}, settings)
    assert first.why == "config count: 3 → 9" and first.seconds is not None
    assert second.why == "it reads make.numbers, made anew before it"


def test_a_result_of_which_a_part_was_deleted_is_none(settings: Settings) -> None:
    made = run(CHAIN, {"count": 3}, settings)["make"]
    later = datetime.now(UTC) + timedelta(days=1)
    assert open_store(settings).free_outputs([(made.component, made.key)], ["numbers"], later)
    first, *_ = foretell(CHAIN, {"count": 3}, settings)
    assert (first.state, first.why) == ("miss", "rankmill gc deleted its numbers")
    assert run(CHAIN, {"count": 3}, settings)["make"].cached is False
    assert foretell(CHAIN, {"count": 3}, settings)[0].state == "hit"


def test_what_another_pipeline_did_is_no_reason(settings: Settings) -> None:
    run(replace(CHAIN, spec=CHAIN.spec.model_copy(update={"name": "another"})), {"count": 3}, settings)
    first, *_ = foretell(CHAIN, {"count": 9}, settings)
    assert (first.why, first.seconds) == ("it has never run", None)


def test_a_changed_input_is_told_by_its_digests(settings: Settings) -> None:
    results = run(CHAIN, {"count": 3}, settings)
    other = run(plan_of(CHAIN.stages[0]), {"count": 4}, settings)
    _, second, _ = foretell(CHAIN, {"count": 4}, settings)
    old, new = (done["make"].outputs["numbers"].digest for done in (results, other))
    assert second.why == f"input numbers: {old[:12]} → {new[:12]}"
    assert [(c.kind, c.name, c.old, c.new) for c in second.changes] == [("input", "numbers", old, new)]


def test_changed_code_is_told_by_its_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run(CHAIN, {"count": 3}, settings)
    edit(monkeypatch)
    first, *_ = foretell(CHAIN, {"count": 3}, settings)
    assert (first.state, first.why) == ("miss", "code tests/example_component.py changed")


def test_cache_inputs_takes_what_other_code_made_and_cache_all_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chain(mode: str) -> Plan:
        return plan_of(stage("make", COUNT, {}, cache=mode), stage("sum", ADD, {}, "make", cache=mode))

    before = run(chain("all"), {}, settings)
    edit(monkeypatch)
    found = foretell(chain("inputs"), {}, settings)
    assert states(found) == ["hit", "hit"] and "code tests/" in found[0].why
    after = run(chain("inputs"), {}, settings)
    assert [result.cached for result in after.values()] == [True, True]
    assert after["sum"].outputs == before["sum"].outputs
    assert states(foretell(chain("all"), {}, settings)) == ["miss", "runs"]
    raised = plan_of(stage("make", replace(COUNT, version="2"), {}, cache="inputs"))
    (found_raised,) = foretell(raised, {}, settings)
    assert found_raised.state == "miss" and found_raised.why.startswith("component: count_numbers@1 → count_numbers@2")


def edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one source of the components be another one."""
    files = dict(source_files("tests")) | {"tests/example_component.py": "f" * 64}
    monkeypatch.setattr(cache, "source_digest", lambda *modules: "f" * 64)
    monkeypatch.setattr(predicting, "source_files", lambda *modules: files)
    monkeypatch.setattr(execution, "source_files", lambda *modules: files)


@pytest.mark.parametrize("mode", ["all", "inputs", "off"])
def test_a_run_from_a_stage_takes_what_is_before_and_runs_what_is_after(settings: Settings, mode: str) -> None:
    chain = plan_of(
        stage("make", COUNT, {}, cache=mode),
        stage("aside", COUNT, {"count": 7}),
        stage("sum", replace(ADD, cacheable=mode != "off"), {}, "make", cache=mode),
        stage("again", ADD, {}, "sum"),
    )
    part = select(chain, Selection("from", "sum"))
    assert [found.state for found in foretell(part, {}, settings)] == ["missing", "runs", "runs"]
    with pytest.raises(MissingError, match=r"'make' must come from the store and cannot \(make: it has never run\)"):
        refuse_missing(predict(part, {}, NOW, settings))
    first = run(chain, {}, settings)
    refuse_missing(predict(part, {}, NOW, settings))
    assert states(foretell(part, {}, settings)) == ["hit", "runs", "runs"]
    second = run(part, {}, settings)
    assert {name: done.cached for name, done in second.items()} == {"make": True, "sum": False, "again": False}
    assert second["make"].outputs == first["make"].outputs
    alone = select(chain, Selection("only", "again"))
    third = run(alone, {}, settings)
    assert {name: done.cached for name, done in third.items()} == {"make": True, "sum": True, "again": False}
    assert third["sum"].outputs == second["sum"].outputs, "what was made last is what is taken"


def test_what_was_made_anew_is_what_the_cache_has_from_then_on(settings: Settings, tmp_path: Path) -> None:
    first = run(CHAIN, {"count": 3}, settings)
    anew = run(select(CHAIN, Selection("from", "make")), {"count": 3}, settings)
    later = run(CHAIN, {"count": 3}, settings)
    assert [done.cached for done in later.values()] == [True, True, True]
    for name in first:
        assert anew[name].key != first[name].key
        assert later[name].outputs == anew[name].outputs
        assert Path(first[name].outputs["numbers"].uri.removeprefix("file://")).is_dir(), "others may read it still"


def test_the_most_similar_earlier_run_is_compared_not_only_the_newest(settings: Settings) -> None:
    run(CHAIN, {"count": 3}, settings)
    other = plan_of(stage("make", COUNT, {"count": 5, "marker": str(settings.home / "marker")}))
    run(other, {}, settings)
    first, *_ = foretell(CHAIN, {"count": 4}, settings)
    assert "config count" in first.why and "marker" not in first.why


def test_a_stage_with_its_cache_off_and_an_uncacheable_component_always_run(settings: Settings) -> None:
    plan = plan_of(stage("make", COUNT, {}, cache="off"), stage("sum", replace(ADD, cacheable=False), {}, "make"))
    run(plan_of(stage("make", COUNT, {}), stage("sum", ADD, {}, "make")), {}, settings)
    found = foretell(plan, {}, settings)
    assert states(found) == ["runs", "runs"]
    assert found[0].why == "its cache is off" and "always runs" in found[1].why
    assert all(prediction.key is None and prediction.seconds is not None for prediction in found)


def refuses(outputs: Any, config: Any, settings: Settings) -> str:
    """A recheck that finds its result gone from the world outside."""
    return f"the online store no longer has {config.count} rows"


def test_a_result_that_no_longer_holds_outside_is_a_miss(settings: Settings) -> None:
    run(plan_of(stage("make", COUNT, {})), {}, settings)
    rechecked = replace(COUNT, recheck=f"{__name__}:refuses")
    (found,) = foretell(plan_of(stage("make", rechecked, {})), {}, settings)
    assert (found.state, found.why) == ("miss", "the online store no longer has 3 rows")


def test_the_window_counts_only_where_it_is_read(settings: Settings) -> None:
    windowed = plan_of(stage("make", replace(COUNT, windowed=True), {}))
    plain = plan_of(stage("make", COUNT, {}))
    keys = [[foretell(p, {}, settings, NOW + timedelta(days=d))[0].key for d in (0, 1)] for p in (windowed, plain)]
    assert keys[0][0] != keys[0][1]
    assert keys[1][0] == keys[1][1]


def test_the_summary_and_the_json_tell_the_same(settings: Settings) -> None:
    run(CHAIN, {"count": 3}, settings)
    found = predict(CHAIN, {"count": 3}, NOW, settings)
    assert summary(found) == "3 of 3 stages come from the cache; 0 would run."
    shown = as_json(found)
    assert [entry["prediction"]["state"] for entry in shown["stages"]] == ["hit", "hit", "hit"]
    assert shown["window"]["start"] == "2026-02-28T00:00:00+00:00" and shown["estimate"] == 0
    changed = predict(CHAIN, {"count": 4}, NOW, settings)
    assert summary(changed).startswith("0 of 3 stages come from the cache; 3 would")
    told = as_json(changed)["stages"][0]["prediction"]["changes"]
    assert told == [{"kind": "config", "name": "count", "old": "3", "new": "4"}]
