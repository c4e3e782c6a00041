"""What will run, in which order, wired how? The read-only plan that CLI, DAG, docs and tests share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from components.contract import ComponentSpec
from pipelines.spec import PipelineSpec


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
    cache: Literal["all", "off"]
    line: int


@dataclass(frozen=True)
class Plan:
    """A checked pipeline.

    Attributes:
        spec: the file's content.
        path: the file.
        stages: in topological order; ties by position in the file.
    """

    spec: PipelineSpec
    path: Path
    stages: tuple[PlannedStage, ...]

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.spec.name

    def stage(self, name: str) -> PlannedStage:
        """Return one stage.

        Raises:
            KeyError: there is no stage of this name.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)
