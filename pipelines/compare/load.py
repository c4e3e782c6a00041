"""Is a comparison file right? Everything wrong with it is told at once, with its place, or a comparison comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from components.platform.errors import MissingError, did_you_mean
from pipelines.compare.rules import RULES, ComparisonDraft, training_sets
from pipelines.compare.spec import JUDGE_BY, ComparisonSpec
from pipelines.language.load import names_file, pipeline_files, read
from pipelines.language.plan import Plan, PlannedStage
from pipelines.language.problems import PipelineError
from pipelines.language.rules.draft import judge

FOLDER = "comparisons"
"""Folder of the comparison files in a folder of pipelines."""


@dataclass(frozen=True)
class Comparison:
    """A checked comparison."""

    spec: ComparisonSpec
    plan: Plan
    """The pipeline that builds the training set."""
    stages: tuple[PlannedStage, ...]
    """The stages up to the training set, in the plan's order."""
    output: str
    """Name of the training set among the last stage's outputs."""


def comparison_names() -> tuple[str, ...]:
    """Return the names of all comparison files, those of ``RANKMILL_PIPELINES`` included, sorted."""
    return tuple(sorted(pipeline_files(FOLDER)))


def comparison_file(name: str) -> Path:
    """Return the file of a comparison given by name or as a YAML file.

    Raises:
        MissingError: there is no comparison of this name; the message holds the nearest one.
    """
    path = Path(name) if names_file(name) else pipeline_files(FOLDER).get(name)
    if path is None or not path.is_file():
        raise MissingError(f"no comparison {name!r}{did_you_mean(name, comparison_names())}")
    return path


def load_comparison(path: Path) -> Comparison:
    """Return the checked comparison of a file.

    Raises:
        MissingError: there is no such file.
        PipelineError: it is wrong, or its pipeline is; the error holds every problem.
    """
    document = read(path, alone=True)
    draft, findings = judge(document, ComparisonSpec, _STAND_INS, ComparisonDraft, RULES)
    problems = document.problems(findings)
    if problems or draft is None or draft.plan is None or draft.dataset is None:
        raise PipelineError(problems)
    plan, dataset = draft.plan, draft.dataset
    needed = plan.before([dataset.name])
    judged = {JUDGE_BY: draft.spec.judge_by} if draft.spec.judge_by else {}
    stages = tuple(
        replace(stage, config=stage.config | judged) if stage.name == dataset.name else stage
        for stage in plan.stages
        if stage.name in needed
    )
    return Comparison(spec=draft.spec, plan=plan, stages=stages, output=training_sets(dataset)[0])


_STAND_INS = {
    "name": "unnamed", "title": "unnamed", "labels": "unnamed", "pipeline": "unnamed", "dataset": "unnamed",
    "entries": {"unnamed": {"ranker": {"name": "lr"}}},
}  # fmt: skip
