"""What will run, in which order, wired how? The read-only plan that CLI, DAG, docs and tests share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from components.platform.cache import CacheMode, Change, Start
from components.platform.contract import ComponentSpec
from features.declaration import Window
from pipelines.language.spec import PipelineSpec


@dataclass(frozen=True)
class Wire:
    """One input of a stage: `stage.output` of an earlier stage."""

    input: str
    stage: str
    output: str


@dataclass(frozen=True)
class PlannedStage:
    """One stage, checked: its component exists, its wires fit, its config is valid with default params.

    Attributes:
        name: stage name, also the Airflow task id.
        component: what runs.
        config: the `with:` block as written, `${params.x}` references unresolved.
        wires: inputs, sorted by input name.
        upstream: stages that must succeed first (wires and `after`), sorted.
        group: task group, or None.
        retries: tries after the first.
        retry_delay: wait between tries.
        timeout: longest run, or None.
        cache: cache mode.
        line: line of the stage in the YAML file.
        start: how the stage comes to its result; `pipelines.language.selection` decides it for a run of a part.
    """

    name: str
    component: ComponentSpec
    config: dict[str, Any]
    wires: tuple[Wire, ...]
    upstream: tuple[str, ...]
    group: str | None
    retries: int
    retry_delay: timedelta
    timeout: timedelta | None
    cache: CacheMode
    line: int
    start: Start = "cache"


@dataclass(frozen=True)
class Prediction:
    """What one stage would do in a run that starts now.

    Attributes:
        stage: its name.
        state: `hit` comes from the store; `miss` runs because its key is new or its result no longer
            holds; `runs` runs whatever the store has, or cannot be known before an earlier stage ran;
            `missing` was to be taken from the store, which does not have it.
        key: cache key, or None when it depends on a stage that has yet to run.
        why: one clause.
        changes: how it differs from the most similar earlier run; empty when nothing is known to.
        seconds: how long the most similar earlier run took; None when there is none.
    """

    stage: str
    state: Literal["hit", "miss", "runs", "missing"]
    key: str | None
    why: str
    changes: tuple[Change, ...]
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """A checked pipeline, and what a run of it would do where that was looked up.

    Attributes:
        spec: the file's content.
        path: the file.
        stages: in topological order; ties by position in the file.
        window: interval of events that the run would read; None before `pipelines.run.predict`.
        predictions: what each stage would do, in the order of `stages`; empty before `pipelines.run.predict`.
    """

    spec: PipelineSpec
    path: Path
    stages: tuple[PlannedStage, ...]
    window: Window | None = None
    predictions: tuple[Prediction, ...] = ()

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.spec.name

    @property
    def seconds(self) -> float | None:
        """How long the stages that would run took last time, together; None when one of them never ran."""
        known = [found.seconds for found in self.predictions if found.state != "hit"]
        return None if not self.predictions or None in known else sum(value for value in known if value is not None)

    def stage(self, name: str) -> PlannedStage:
        """Return one stage.

        Raises:
            KeyError: there is no stage of this name.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def prediction(self, name: str) -> Prediction | None:
        """Return what one stage would do, or None where it was not looked up."""
        return next((found for found in self.predictions if found.stage == name), None)
