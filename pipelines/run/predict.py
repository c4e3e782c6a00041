"""Which stages would run now, which come from the cache, and why? Looked up in the store, nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from components.platform.cache import Change, cache_key, changes, earlier_result, key_parts, nearest_run, told
from components.platform.errors import RankmillError
from components.platform.execute import load_function, validated_config
from components.platform.settings import Settings
from components.platform.sources import modules_of, source_files
from components.platform.store.publish import Store, open_store
from components.platform.store.records import StageRecord
from features.declaration import Window
from pipelines.language.params import resolve_config, resolve_window
from pipelines.language.plan import Plan, PlannedStage, Prediction


def predict(plan: Plan, params: Mapping[str, Any], now: datetime, settings: Settings | None = None) -> Plan:
    """Return the plan with what each of its stages would do in a run.

    Raises:
        BadInputError: a parameter is missing, or the window is impossible.
    """
    settings = settings or Settings.from_environment()
    store = open_store(settings)
    window = resolve_window(plan.spec, params, now)
    digests: dict[str, str] = {}
    predictions = []
    for stage in plan.stages:
        given = resolve_config(stage, params)
        prediction, record = _predict(plan.name, stage, given, window, digests, store, settings)
        if record is not None:
            digests |= {f"{stage.name}.{name}": ref.digest for name, ref in record.outputs.items()}
        if stage.verdict is not None and stage.start != "taken":
            prediction = replace(prediction, why=f"{prediction.why}; skipped unless {stage.when} says something new")
        predictions.append(prediction)
    return replace(plan, window=window, predictions=tuple(predictions))


def _predict(
    pipeline: str,
    stage: PlannedStage,
    given: Mapping[str, Any],
    window: Window,
    digests: Mapping[str, str],
    store: Store,
    settings: Settings,
) -> tuple[Prediction, StageRecord | None]:
    """Return what a stage would do, and the record that it would take, if any."""
    spec = stage.component
    config = validated_config(spec, given, stage.name)
    canonical = config.model_dump(mode="json")
    sources = {wire.key: f"{wire.stage}.{wire.output}" for wire in stage.wires}
    inputs = {port: digests[source] for port, source in sources.items() if source in digests}
    unknown = [source for port, source in sources.items() if port not in inputs]
    parts = key_parts(spec, canonical, inputs, window)
    similar = nearest_run(parts, store.records(spec.name), f"{pipeline}.{stage.name}")
    found: tuple[Change, ...] = ()
    if similar is not None and not unknown:
        found = changes(similar, parts, canonical, source_files(*modules_of(spec)))
    seconds = similar.seconds if similar else None
    key = None if unknown or not spec.cacheable or stage.cache == "off" else cache_key(parts)

    def runs(state: Any, why: str) -> tuple[Prediction, None]:
        return Prediction(stage.name, "missing" if stage.start == "taken" else state, key, why, found, seconds), None

    if stage.start == "anew":
        return runs("runs", "it was asked to run again")
    if stage.start == "cache" and not spec.cacheable:
        return runs("runs", "its result depends on more than its inputs, so it always runs")
    if stage.start == "cache" and stage.cache == "off":
        return runs("runs", "its cache is off")
    if unknown:
        return runs("runs", f"it reads {' and '.join(unknown)}, made anew before it")
    record = earlier_result(store, spec, parts, stage.cache, stage.start)
    if record is None:
        return runs("miss", _difference(similar, found))
    if spec.recheck and (reason := _recheck(stage, record, config, settings)):
        return runs("miss", reason)
    why = f"made {record.created_at:%Y-%m-%d %H:%M} UTC, "
    if edited := [change for change in found if change.kind == "source"]:
        why += f"{told(edited)}, which cache: inputs does not look at"
    else:
        why += "nothing changed since"
    return Prediction(stage.name, "hit", record.key, why, found, record.seconds), record


def _difference(similar: StageRecord | None, found: Sequence[Change]) -> str:
    """Return why there is no result to take."""
    if similar is None:
        return "it has never run"
    if similar.freed and not found:
        return f"rankmill gc deleted its {' and '.join(similar.freed)}"
    return told(found) if found else "its only earlier results were made with cache: off"


def _recheck(stage: PlannedStage, record: StageRecord, config: Any, settings: Settings) -> str | None:
    """Return why a published result no longer holds outside the store, as the run would find it."""
    spec = stage.component
    try:
        outputs = spec.outputs(**{name: ref.load() for name, ref in record.outputs.items()})
        reason: str | None = load_function(spec.recheck)(outputs, config, settings)
    except RankmillError as error:
        return str(error)
    return reason
