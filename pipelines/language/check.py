"""Is a pipeline file right, and what does it plan? Everything wrong with it is told at once, or a plan comes out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from components.platform.catalog import catalog
from components.platform.paths import rooted
from features.ground.yaml_text import KeyPath
from pipelines.language.document import Document
from pipelines.language.extend import DEFAULTS
from pipelines.language.load import read
from pipelines.language.plan import Place, Plan, PlannedStage, Wire
from pipelines.language.problems import PipelineError, Problem
from pipelines.language.profile import Profile
from pipelines.language.rules import RULES
from pipelines.language.rules.draft import PipelineDraft, judge
from pipelines.language.rules.profile import overlay
from pipelines.language.spec import PipelineSpec, Placement, StageSpec


def load_plan(path: Path, profile: Profile | None = None) -> Plan:
    """Return the checked plan of a pipeline file.

    Profile None asks nothing.

    Raises:
        MissingError: there is no such file.
        BadInputError: it cannot be read.
        PipelineError: it is wrong; the error holds every problem.
    """
    plan, problems = examine(read(path), profile)
    if plan is None:
        raise PipelineError(problems)
    return plan


def examine(document: Document, profile: Profile | None = None) -> tuple[Plan | None, tuple[Problem, ...]]:
    """Return the plan of a document, or None and every problem of the file.

    Whatever is malformed is reported and left out, and the rest is judged all the same: a broken
    stage hides nothing about the others.
    """
    made = partial(PipelineDraft, profile=profile, of_folder=partial(_of_folder, document))
    draft, findings = judge(document, PipelineSpec, _STAND_INS, made, RULES)
    if draft is None or findings or document.broken:
        return None, tuple(document.problems(findings))
    return _plan(document, draft.spec, overlay(profile.spec) if profile else {}), ()


def _of_folder(document: Document, where: KeyPath) -> bool:
    return document.home(where)[0].path.name == DEFAULTS


_STAND_INS = {"name": "unnamed", "window": {"days": 1}, "stages": {"unnamed": {"uses": "unnamed"}}}
"""What a file must have; where it has not, the rest is judged with these."""


def _plan(document: Document, spec: PipelineSpec, given: Mapping[str, Any]) -> Plan:
    stages = {name: _planned(document, spec, name, stage, given) for name, stage in spec.stages.items()}
    return Plan(
        spec=spec, path=document.path, files=document.files, stages=tuple(stages[name] for name in _ordered(stages))
    )


def _planned(
    document: Document, spec: PipelineSpec, name: str, stage: StageSpec, given: Mapping[str, Any]
) -> PlannedStage:
    common = spec.defaults
    component = catalog()[stage.uses]
    many = component.many_inputs
    sources = sorted((port, *source.split(".", 1)) for port, source in stage.sources())
    wires = tuple(Wire(port, producer, output, port in many) for port, producer, output in sources)
    usual = {key: value for key, value in given.items() if key in component.config.model_fields}
    return PlannedStage(
        name=name,
        component=component,
        config=rooted(component.config, usual | stage.with_, document.path.parent),
        wires=wires,
        upstream=tuple(sorted({*stage.after, *(wire.stage for wire in wires), *(stage.verdict or ())[:1]})),
        group=stage.group,
        retries=common.retries if stage.retries is None else stage.retries,
        retry_delay=common.retry_delay if stage.retry_delay is None else stage.retry_delay,
        timeout=common.timeout if stage.timeout is None else stage.timeout,
        cache=common.cache if stage.cache is None else stage.cache,
        placement=_placement(common, stage),
        when=stage.when.removeprefix("${params.").removesuffix("}") if stage.when else "",
        written=document.made.get(name, name),
        places=tuple(Place(*place) for place in document.places(("stages", name))),
    )


def _placement(common: Placement, stage: Placement) -> Placement:
    """Return where a stage runs: what it says itself, else what all stages have."""
    keys = Placement.model_fields
    own = {key: getattr(stage, key) for key in keys if getattr(stage, key) is not None}
    return Placement.model_construct(**{key: own.get(key, getattr(common, key)) for key in keys})


def _ordered(stages: dict[str, PlannedStage]) -> list[str]:
    """Return the stages so that each comes after all it waits for; of those that could come, the first in the file."""
    position = {name: index for index, name in enumerate(stages)}
    sorter = TopologicalSorter({name: stage.upstream for name, stage in stages.items()})
    sorter.prepare()
    ready: list[str] = []
    ordered: list[str] = []
    while sorter:
        ready = sorted([*ready, *sorter.get_ready()], key=position.__getitem__)
        ordered.append(ready.pop(0))
        sorter.done(ordered[-1])
    return ordered
