"""Which stages would run now, which come from the cache, and why? Looked up in the store, nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from components.cache import cache_key, explain, key_parts
from components.errors import RankmillError
from components.execute import load_function
from components.settings import Settings
from components.store import StageRecord, Store, open_store
from features.declaration import Window
from pipelines.params import resolve_config, resolve_window
from pipelines.plan import Plan, PlannedStage


@dataclass(frozen=True)
class Prediction:
    """What one stage would do.

    Attributes:
        stage: its name.
        state: `hit` comes from the store; `miss` runs because its key is new or its result no longer
            holds; `runs` runs whatever the store has, or cannot be known before an earlier stage ran.
        key: cache key, or None when it depends on a stage that has yet to run.
        why: one clause.
        seconds: how long the most similar earlier run took; None when there is none.
    """

    stage: str
    state: Literal["hit", "miss", "runs"]
    key: str | None
    why: str
    seconds: float | None


def predict(
    plan: Plan, params: Mapping[str, Any], now: datetime, settings: Settings | None = None
) -> tuple[Prediction, ...]:
    """Return what each stage of a run would do, in the plan's order.

    Args:
        plan: a checked plan.
        params: value of every parameter, as `check_params` returns them.
        now: the moment the run is for, with a time zone.
        settings: where the store is; from the environment when None.

    Raises:
        BadInputError: a parameter is missing, or the window is impossible.
    """
    settings = settings or Settings.from_environment()
    store = open_store(settings)
    window = resolve_window(plan.spec, params, now)
    digests: dict[str, str] = {}
    predictions = []
    for stage in plan.stages:
        prediction, record = _predict(stage, resolve_config(stage, params), window, digests, store, settings)
        if record is not None:
            digests |= {f"{stage.name}.{name}": ref.digest for name, ref in record.outputs.items()}
        predictions.append(prediction)
    return tuple(predictions)


def _predict(
    stage: PlannedStage,
    given: Mapping[str, Any],
    window: Window,
    digests: Mapping[str, str],
    store: Store,
    settings: Settings,
) -> tuple[Prediction, StageRecord | None]:
    """Return what a stage would do, and the record that it would take, if any."""
    spec = stage.component
    config = spec.config.model_validate(given)
    sources = {wire.input: f"{wire.stage}.{wire.output}" for wire in stage.wires}
    inputs = {port: digests[source] for port, source in sources.items() if source in digests}
    parts = key_parts(spec, config.model_dump(mode="json"), inputs, window)
    similar = _most_similar(parts, store.records(spec.name))
    seconds = similar.seconds if similar else None

    def runs(why: str, key: str | None = None, state: Literal["miss", "runs"] = "runs") -> tuple[Prediction, None]:
        return Prediction(stage.name, state, key, why, seconds), None

    if not spec.cacheable:
        return runs("its result depends on more than its inputs, so it always runs")
    if stage.cache == "off":
        return runs("its cache is off")
    unknown = [source for port, source in sources.items() if port not in inputs]
    if unknown:
        return runs(f"it reads {' and '.join(unknown)}, made anew before it")
    key = cache_key(parts)
    record = store.find(spec.name, key)
    if record is None:
        return runs(explain(_comparable(similar), parts) if similar else "the store has no earlier result", key, "miss")
    if spec.recheck and (reason := _recheck(stage, record, config, settings)):
        return runs(reason, key, "miss")
    why = f"nothing changed since {record.created_at:%Y-%m-%d %H:%M} UTC"
    return Prediction(stage.name, "hit", key, why, record.seconds), record


def _recheck(stage: PlannedStage, record: StageRecord, config: Any, settings: Settings) -> str | None:
    """Return why a published result no longer holds outside the store, as the run would find it."""
    spec = stage.component
    try:
        outputs = spec.outputs(**{name: ref.load() for name, ref in record.outputs.items()})
        reason: str | None = load_function(spec.recheck)(outputs, config, settings)
    except RankmillError as error:
        return str(error)
    return reason


def _comparable(record: StageRecord) -> dict[str, str]:
    """Return the parts of a record's key without what only makes an uncached run unique."""
    return {name: value for name, value in record.explanation.items() if name != "run"}


def _most_similar(parts: Mapping[str, str], records: Sequence[StageRecord]) -> StageRecord | None:
    """Return the record with the fewest other parts; of equals the newest, which comes first."""

    def differences(record: StageRecord) -> int:
        old = _comparable(record)
        return sum(old.get(name) != parts.get(name) for name in {*old, *parts})

    return min(records, key=differences, default=None)
