"""Is a pipeline file right, and what does it plan? Everything wrong with it is told at once, or a plan comes out.

The rest of the code enters the pipeline language here: files by name, checked plans, parameters.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.platform.catalog import catalog
from components.platform.errors import BadInputError, MissingError, did_you_mean
from components.platform.paths import rooted
from pipelines.language import shape
from pipelines.language.columns import COLUMN_RULES
from pipelines.language.load import Document, read
from pipelines.language.params import check_params, parse_params, resolve_config, resolve_window
from pipelines.language.places import PIPELINES, hidden_files, names_file, pipeline_files
from pipelines.language.plan import Plan, PlannedStage, Wire
from pipelines.language.problems import Finding, PipelineError, Problem
from pipelines.language.profile import Profile
from pipelines.language.rules.files import FILE_RULES
from pipelines.language.rules.pipeline import RULES, Draft
from pipelines.language.rules.profile import gpus_are_there, overlay
from pipelines.language.rules.ranker import RANKER_RULES
from pipelines.language.spec import PipelineSpec, StageSpec

__all__ = [
    "PIPELINES",
    "check_params",
    "examine",
    "load_plan",
    "parse_params",
    "pipeline_names",
    "pipeline_path",
    "resolve_config",
    "resolve_window",
]


def pipeline_names() -> tuple[str, ...]:
    """Return the names of all pipeline files, those of ``RANKMILL_PIPELINES`` included, sorted."""
    return tuple(sorted(pipeline_files()))


def pipeline_path(name: str) -> Path:
    """Return the file of a pipeline.

    Raises:
        MissingError: there is no pipeline of this name; the message holds the nearest one.
    """
    files = pipeline_files()
    if name not in files:
        if other := next((path for path in hidden_files() if path.stem == name), None):
            raise MissingError(f"no pipeline {name!r}: {other} is no .yaml file, rename it to {name}.yaml")
        raise MissingError(f"no pipeline {name!r}{did_you_mean(name, files)}")
    return files[name]


def pipeline_file(name: str) -> Path:
    """Return the file of a pipeline given by name or as a YAML file.

    Raises:
        MissingError: there is no pipeline of this name.
        BadInputError: there are two; the scheduler goes on with the one of this tree.
    """
    if names_file(name):
        return Path(name)
    path = pipeline_path(name)
    if other := next((file for file in hidden_files() if file.name == path.name), None):
        raise BadInputError(
            f"there are two pipelines {name!r}, {other} and the shipped {path}: rename yours, or give one as a file"
        )
    return path


def load_plan(path: Path, profile: Profile | None = None) -> Plan:
    """Return the checked plan of a pipeline file.

    Args:
        path: the file.
        profile: place that the run belongs to: what it gives to stages, and what they may ask for; None asks nothing.

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
    problems = list(document.problems)
    # A file in which nothing could be read has said so already.
    if document.value is None and problems:
        return None, tuple(sorted(problems))
    sound, spec, findings = _salvage(document)
    if spec is not None:
        draft = Draft(document, sound, spec)
        findings += [finding for rule in (*RULES, *COLUMN_RULES, *RANKER_RULES, *FILE_RULES) for finding in rule(draft)]
        if profile is not None:
            findings += gpus_are_there(draft, profile.spec, profile.document)
    problems += [
        document.problem(document.span(finding.where, key=finding.at == "key"), finding.message)
        for finding in findings
        if not any(finding.where[: len(doubt)] == doubt for doubt in document.doubtful)
    ]
    if spec is None or findings or problems:
        return None, tuple(sorted(set(problems)))
    return _plan(document, spec, overlay(profile.spec) if profile else {}), ()


def _salvage(document: Document) -> tuple[Any, PipelineSpec | None, list[Finding]]:
    """Return the file's content without its malformed parts, as value and as model, and what was malformed."""
    return shape.salvage(PipelineSpec, document.value, _STAND_INS)


_STAND_INS = {"name": "unnamed", "window": {"days": 1}, "stages": {"unnamed": {"uses": "unnamed"}}}
"""What a file must have; where it has not, the rest is judged with these."""


def _plan(document: Document, spec: PipelineSpec, given: Mapping[str, Any]) -> Plan:
    stages = {name: _planned(document, spec, name, stage, given) for name, stage in spec.stages.items()}
    return Plan(spec=spec, path=document.path, stages=tuple(stages[name] for name in _ordered(stages)))


def _planned(
    document: Document, spec: PipelineSpec, name: str, stage: StageSpec, given: Mapping[str, Any]
) -> PlannedStage:
    wires = tuple(Wire(port, *stage.in_[port].split(".")) for port in sorted(stage.in_))
    common = spec.defaults
    component = catalog()[stage.uses]
    usual = {key: value for key, value in given.items() if key in component.config.model_fields}
    return PlannedStage(
        name=name,
        component=component,
        config=rooted(component.config, usual | stage.with_, document.path.parent),
        wires=wires,
        upstream=tuple(sorted({*stage.after, *(wire.stage for wire in wires)})),
        group=stage.group,
        retries=common.retries if stage.retries is None else stage.retries,
        retry_delay=common.retry_delay if stage.retry_delay is None else stage.retry_delay,
        timeout=common.timeout if stage.timeout is None else stage.timeout,
        cache=common.cache if stage.cache is None else stage.cache,
        line=document.span(("stages", name), key=True).line,
    )


def _ordered(stages: dict[str, PlannedStage]) -> list[str]:
    """Return the stages so that each comes after all it waits for; of those that could come, the first in the file."""
    names = list(stages)
    position = {name: index for index, name in enumerate(names)}
    waiting = {name: len(stage.upstream) for name, stage in stages.items()}
    ready = [position[name] for name in names if not waiting[name]]
    ordered: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        ordered.append(name)
        for later in names:
            if name in stages[later].upstream:
                waiting[later] -= 1
                if not waiting[later]:
                    heapq.heappush(ready, position[later])
    return ordered
