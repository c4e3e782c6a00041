"""Does a well-formed comparison make sense? Its own rules, and of its entries those of every `with:` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from components.data.build_training_set.config import Config as Roles
from components.platform.artifacts import TrainingSet
from components.platform.errors import did_you_mean
from components.rankers.tasks import tasks_of
from features.ground.yaml_text import KeyPath, quoted
from pipelines.compare.spec import JUDGE_BY, Candidate, ComparisonSpec, candidates, component_of
from pipelines.language.check import load_plan
from pipelines.language.document import shown
from pipelines.language.load import pipeline_files, pipelines_in
from pipelines.language.params import misfit, references, substitute
from pipelines.language.plan import Plan, PlannedStage
from pipelines.language.problems import Finding, PipelineError
from pipelines.language.rules import CONFIG_RULES
from pipelines.language.rules.draft import Draft, PipelineDraft
from pipelines.language.spec import PipelineSpec, StageSpec, WindowSpec

RESERVED = {"seed": "seeds: gives it", "ranker": "write ranker: beside with:"}
"""Keys that no `with:` may hold, and why."""


@dataclass(frozen=True)
class ComparisonDraft(Draft[ComparisonSpec]):
    """A comparison on its way to runs."""

    @cached_property
    def pipeline(self) -> Plan | str:
        """The pipeline that builds the training set, or why there is none."""
        folder, name = self.path.absolute().parent.parent, self.spec.pipeline
        files = pipeline_files() | pipelines_in(folder)
        if name not in files:
            return f"no pipeline {quoted(name)}{did_you_mean(name, files)}"
        try:
            return load_plan(files[name])
        except PipelineError as error:
            first = error.problems[0]
            return (
                f"pipeline {quoted(name)} has problems, first {shown(files[name])}:{first.line}:{first.column}: mend it"
            )

    @property
    def plan(self) -> Plan | None:
        """The pipeline that builds the training set, where it is right."""
        return self.pipeline if isinstance(self.pipeline, Plan) else None

    @cached_property
    def params(self) -> dict[str, Any]:
        """Values of the pipeline's params: its defaults, and those of this file that fit."""
        declared = self.plan.spec.params if self.plan else {}
        given = self.spec.params
        return {
            name: given[name] if name in given and not misfit(param, given[name]) else param.default
            for name, param in declared.items()
        }

    @property
    def dataset(self) -> PlannedStage | None:
        """The stage that makes the training set, where there is one."""
        stages = self.plan.stages if self.plan else ()
        return next((stage for stage in stages if stage.name == self.spec.dataset and training_sets(stage)), None)

    @property
    def tasks(self) -> list[str]:
        """Tasks of the training set; none where its stage declares no roles."""
        roles = self.as_pipeline.configs.get(self.spec.dataset) if self.dataset else None
        return [task.name for task in tasks_of(roles.declaration())] if isinstance(roles, Roles) else []

    @cached_property
    def candidates(self) -> dict[str, tuple[str, Candidate]]:
        """Entry and config of everything that may run; the keys are no name that a stage may have."""
        return {
            f"{name}[{at}]": (name, candidate)
            for name in self.spec.entries
            for at, candidate in enumerate(candidates(self.spec, name))
        }

    @cached_property
    def as_pipeline(self) -> PipelineDraft:
        """The stages up to the training set, params put in, with every candidate as one stage more."""
        plan, dataset = self.plan, self.dataset
        stages: dict[str, Any] = {}
        wires: dict[str, str] = {}
        if plan is not None and dataset is not None:
            written = plan.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)["stages"]
            before = plan.before([dataset.name])
            stages = {name: substitute(stage, self.params) for name, stage in written.items() if name in before}
            if self.spec.judge_by is not None and _takes_judge_by(dataset):
                stages[dataset.name]["with"] = stages[dataset.name].get("with", {}) | {JUDGE_BY: self.spec.judge_by}
            wires = {"dataset": f"{dataset.name}.{training_sets(dataset)[0]}"}
        for label, (name, candidate) in self.candidates.items():
            config = {key: value for key, value in candidate.config.items() if key != "seed"}
            stages[label] = {"uses": component_of(self.spec.entries[name]).name, "in": wires, "with": config}
        blocks = {name: StageSpec.model_validate(stage) for name, stage in stages.items()}
        spec = PipelineSpec.model_construct(name=self.spec.pipeline, window=WindowSpec(days=1), stages=blocks)
        content = {"stages": stages}
        return PipelineDraft(plan.path if plan else self.path, content, content, spec)


def training_sets(stage: PlannedStage) -> list[str]:
    """Return the outputs of a stage that are training sets."""
    return [name for name, kind in stage.component.output_types.items() if issubclass(kind, TrainingSet)]


def _takes_judge_by(dataset: PlannedStage) -> bool:
    return JUDGE_BY in dataset.component.config.model_fields


def named_like_its_file(draft: ComparisonDraft) -> Iterator[Finding]:
    """The file of a comparison carries its name."""
    return draft.misnamed("comparison")


def seeds_are_different(draft: ComparisonDraft) -> Iterator[Finding]:
    """Each seed is a run of its own, and none is negative."""
    for at, seed in enumerate(draft.spec.seeds):
        if seed in draft.spec.seeds[:at]:
            yield Finding(("seeds", at), f"seed {seed} is here twice: a repeated run tells nothing, keep one")
        if seed < 0:
            yield Finding(("seeds", at), f"seeds[{at}] must be at least 0, not {seed}")


def against_is_an_entry(draft: ComparisonDraft) -> Iterator[Finding]:
    """`against:` names an entry of this file."""
    if draft.spec.against is not None and draft.spec.against not in draft.spec.entries:
        yield Finding(
            ("against",), f"no entry {quoted(draft.spec.against)}{did_you_mean(draft.spec.against, draft.spec.entries)}"
        )


def grids_offer_a_choice(draft: ComparisonDraft) -> Iterator[Finding]:
    """A grid has at least two lines, all different, and a baseline's lines hold no ranker."""
    for name, entry in draft.spec.entries.items():
        here: KeyPath = ("entries", name, "grid")
        if len(entry.grid) == 1:
            yield Finding(here, "a grid of one line leaves no choice: add a line, or write it into the entry")
        for at, line in enumerate(entry.grid):
            if line in entry.grid[:at]:
                yield Finding((*here, at), "this line of the grid is here twice: keep one")
            if entry.baseline and line.ranker:
                yield Finding((*here, at, "ranker"), f"{name} is a baseline and has no ranker: remove it", "key")


def common_keys_are_free(draft: ComparisonDraft) -> Iterator[Finding]:
    """No `with:` sets what the comparison itself sets."""
    blocks: list[tuple[KeyPath, dict[str, object]]] = [(("with",), draft.spec.with_)]
    for name, entry in draft.spec.entries.items():
        blocks.append((("entries", name, "with"), entry.with_))
        blocks += [(("entries", name, "grid", at, "with"), line.with_) for at, line in enumerate(entry.grid)]
    for where, block in blocks:
        for key in sorted(RESERVED.keys() & block.keys()):
            yield Finding((*where, key), f"{quoted(key)} cannot stand in with:: {RESERVED[key]}", "key")


def pipeline_is_right(draft: ComparisonDraft) -> Iterator[Finding]:
    """`pipeline:` names a pipeline beside the folder of comparisons, or any other by name, that has no problems."""
    if isinstance(draft.pipeline, str) and "pipeline" in draft.sound:
        yield Finding(("pipeline",), draft.pipeline)


def dataset_is_a_stage(draft: ComparisonDraft) -> Iterator[Finding]:
    """`dataset:` names a stage that gives a training set."""
    spec, plan = draft.spec, draft.plan
    if plan is None or "dataset" not in draft.sound:
        return
    makers = [stage.name for stage in plan.stages if training_sets(stage)]
    names = {stage.name for stage in plan.stages}
    if spec.dataset not in names:
        message = f"pipeline {quoted(plan.name)} has no stage {quoted(spec.dataset)}{did_you_mean(spec.dataset, names)}"
        yield Finding(("dataset",), message)
    elif spec.dataset not in makers:
        message = f"stage {quoted(spec.dataset)} of {quoted(plan.name)} makes no training_set{did_you_mean('', makers)}"
        yield Finding(("dataset",), message)


def judge_by_is_read(draft: ComparisonDraft) -> Iterator[Finding]:
    """`judge_by:` is for a stage that can be told so."""
    if draft.spec.judge_by is not None and draft.dataset is not None and not _takes_judge_by(draft.dataset):
        stage, component = quoted(draft.dataset.name), draft.dataset.component.name
        message = f"stage {stage} is {component}, whose rows are judged as those it reads: remove judge_by"
        yield Finding((JUDGE_BY,), message, "key")


def params_fit(draft: ComparisonDraft) -> Iterator[Finding]:
    """Every param belongs to the pipeline and takes its value; the one of the seed is a free integer."""
    spec, plan = draft.spec, draft.plan
    if plan is None:
        return
    declared = plan.spec.params
    for name, value in spec.params.items():
        if name not in declared:
            message = f"pipeline {quoted(plan.name)} has no param {quoted(name)}{did_you_mean(name, declared)}"
            yield Finding(("params", name), message, "key")
        elif reason := misfit(declared[name], value):
            yield Finding(("params", name), f"param {quoted(name)} {reason}")
    seed = spec.seed_param
    if seed is None:
        return
    if seed not in declared:
        yield Finding(
            ("seed_param",), f"pipeline {quoted(plan.name)} has no param {quoted(seed)}{did_you_mean(seed, declared)}"
        )
    elif declared[seed].type != "integer":
        yield Finding(("seed_param",), f"param {quoted(seed)} is a {declared[seed].type}: a seed is an integer")
    elif seed in spec.params:
        yield Finding(("params", seed), f"{quoted(seed)} takes each run's seed: remove it from params", "key")


def configs_make_sense(draft: ComparisonDraft) -> Iterator[Finding]:
    """Every config that may run could be that of a stage which the training set is wired to."""
    for finding in (finding for rule in CONFIG_RULES for finding in rule(draft.as_pipeline)):
        where = finding.where if finding.where[1] in draft.candidates else finding.otherwise or finding.where
        stage, inner = str(where[1]), where[3:]
        if stage in draft.candidates:
            _, candidate = draft.candidates[stage]
            yield replace(finding, where=candidate.place(inner))
            continue
        # A stage of the pipeline, which is right alone: it does not go with a param of this file, or with an entry.
        used = references(draft.plan.spec.stages[stage].with_) if draft.plan else {}
        param = next((name for at, name in used.items() if name in draft.spec.params and at == inner[: len(at)]), None)
        place: KeyPath = ("dataset",) if param is None else ("params", param)
        place = (JUDGE_BY,) if inner[:1] == (JUDGE_BY,) else place
        yield Finding(place, f"stage {quoted(stage)} of {quoted(draft.spec.pipeline)}: {finding.message}")


def curves_name_entries(draft: ComparisonDraft) -> Iterator[Finding]:
    """A line leads through entries of this file, at least two."""
    for line, points in draft.spec.curves.lines.items() if draft.spec.curves else ():
        here: KeyPath = ("curves", "lines", line)
        if len(points) < 2:
            yield Finding(here, f"line {quoted(line)} has {len(points)} entry: give it two or more", "key")
        for number, name in points.items():
            if name not in draft.spec.entries:
                message = f"no entry {quoted(name)}{did_you_mean(name, draft.spec.entries)}"
                yield Finding((*here, number), message)


def references_name_tasks(draft: ComparisonDraft) -> Iterator[Finding]:
    """A published number is about a task of the training set."""
    tasks = draft.tasks
    for at, reference in enumerate(draft.spec.references):
        if tasks and reference.task not in tasks:
            message = f"no task {quoted(reference.task)}{did_you_mean(reference.task, tasks)}"
            yield Finding(("references", at, "task"), message)


RULES: tuple[Callable[[ComparisonDraft], Iterator[Finding]], ...] = (
    named_like_its_file,
    seeds_are_different,
    against_is_an_entry,
    grids_offer_a_choice,
    common_keys_are_free,
    pipeline_is_right,
    dataset_is_a_stage,
    judge_by_is_read,
    params_fit,
    configs_make_sense,
    curves_name_entries,
    references_name_tasks,
)
"""Every rule, in the order in which a reader would check by hand."""
