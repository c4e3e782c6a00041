"""Is a comparison file right? Everything wrong with it is told at once, with its place, or a comparison comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.platform.errors import MissingError, did_you_mean
from pipelines.compare.rules import PLAN_RULES, RULES, training_sets
from pipelines.compare.spec import ComparisonSpec
from pipelines.language import shape
from pipelines.language.check import PIPELINES, load_plan
from pipelines.language.load import Document, read, shown
from pipelines.language.places import names_file
from pipelines.language.plan import Plan, PlannedStage
from pipelines.language.problems import Finding, PipelineError, quoted

COMPARISONS = PIPELINES / "comparisons"
"""Folder of the comparison files; their pipelines lie in the folder above."""


@dataclass(frozen=True)
class Comparison:
    """A checked comparison.

    Attributes:
        spec: the file's content.
        plan: the pipeline that builds the training set.
        stages: the stages up to the training set, in the plan's order.
        output: name of the training set among the last stage's outputs.
    """

    spec: ComparisonSpec
    plan: Plan
    stages: tuple[PlannedStage, ...]
    output: str


def comparison_names() -> tuple[str, ...]:
    """Return the names of all comparison files, sorted."""
    return tuple(sorted(path.stem for path in COMPARISONS.glob("*.yaml")))


def comparison_file(name: str) -> Path:
    """Return the file of a comparison given by name or as a YAML file.

    Raises:
        MissingError: there is no comparison of this name; the message holds the nearest one.
    """
    path = Path(name) if names_file(name) else COMPARISONS / f"{name}.yaml"
    if not path.is_file():
        raise MissingError(f"no comparison {name!r}{did_you_mean(name, comparison_names())}")
    return path


def load_comparison(path: Path) -> Comparison:
    """Return the checked comparison of a file.

    Raises:
        MissingError: there is no such file.
        PipelineError: it is wrong, or its pipeline is; the error holds every problem.
    """
    document = read(path)
    problems = list(document.problems)
    # A file in which nothing could be read has said so already.
    if document.value is None and problems:
        raise PipelineError(problems)
    sound, spec, findings = shape.salvage(ComparisonSpec, document.value, _STAND_INS)
    plan: Plan | None = None
    if spec is not None:
        plan, judged = _plan_of(document, spec)
        judged += [finding for rule in RULES for finding in rule(document, spec)]
        if plan is not None:
            judged += [finding for rule in PLAN_RULES for finding in rule(spec, plan)]
        # What a file lacks has been told; nothing is wrong with what stands in for it.
        findings += [finding for finding in judged if not finding.where or finding.where[0] in sound]
    problems += [
        document.problem(document.span(finding.where, key=finding.at == "key"), finding.message)
        for finding in findings
        if not any(finding.where[: len(doubt)] == doubt for doubt in document.doubtful)
    ]
    if problems or spec is None or plan is None:
        raise PipelineError(problems)
    stages = _up_to(plan, spec.dataset)
    output = training_sets(stages[-1])[0]
    return Comparison(spec=spec, plan=plan, stages=stages, output=output)


_STAND_INS = {
    "name": "unnamed", "title": "unnamed", "labels": "unnamed", "pipeline": "unnamed", "dataset": "unnamed",
    "entries": {"unnamed": {"ranker": {"name": "lr"}}},
}  # fmt: skip


def _plan_of(document: Document, spec: ComparisonSpec) -> tuple[Plan | None, list[Finding]]:
    folder = document.path.absolute().parent.parent
    file = folder / f"{spec.pipeline}.yaml"
    if not file.is_file():
        known = [path.stem for path in folder.glob("*.yaml")]
        message = f"no pipeline {quoted(spec.pipeline)}{did_you_mean(spec.pipeline, known)}"
        return None, [Finding(("pipeline",), message)]
    try:
        return load_plan(file), []
    except PipelineError as error:
        first = error.problems[0]
        place = f"{shown(file)}:{first.line}:{first.column}"
        return None, [Finding(("pipeline",), f"pipeline {quoted(spec.pipeline)} has problems, first {place}: mend it")]


def _up_to(plan: Plan, last: str) -> tuple[PlannedStage, ...]:
    """Return a stage and all it waits for, in the plan's order."""
    needed = {last}
    for stage in reversed(plan.stages):
        if stage.name in needed:
            needed |= set(stage.upstream)
    return tuple(stage for stage in plan.stages if stage.name in needed)
