"""Does a well-formed comparison make sense? One small function per rule, one sentence per mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from components.data.build_training_set.config import Config as Roles
from components.platform.artifacts import TrainingSet
from components.platform.errors import did_you_mean
from components.rankers import refusals
from components.rankers.config import RankerConfig
from components.rankers.tasks import tasks_of
from features.declaration import Declaration
from pipelines.compare.configs import candidates, component_of
from pipelines.compare.spec import ComparisonSpec
from pipelines.language import shape
from pipelines.language.load import Document
from pipelines.language.params import misfit, resolve_config
from pipelines.language.plan import Plan, PlannedStage
from pipelines.language.problems import Finding, KeyPath, quoted

RESERVED = {"seed": "seeds: gives it", "ranker": "write ranker: beside with:"}
"""Keys that no `with:` may hold, and why."""


def training_sets(stage: PlannedStage) -> list[str]:
    """Return the outputs of a stage that are training sets."""
    return [name for name, kind in stage.component.output_types.items() if issubclass(kind, TrainingSet)]


def named_like_its_file(document: Document, spec: ComparisonSpec) -> Iterator[Finding]:
    """The file of a comparison carries its name."""
    stem = document.path.stem
    if spec.name != stem:
        yield Finding(
            ("name",), f"the comparison is named {quoted(spec.name)} in a file named {quoted(stem)}: rename either"
        )


def seeds_are_different(document: Document, spec: ComparisonSpec) -> Iterator[Finding]:
    """Each seed is a run of its own, and none is negative."""
    for at, seed in enumerate(spec.seeds):
        if seed in spec.seeds[:at]:
            yield Finding(("seeds", at), f"seed {seed} is here twice: a repeated run tells nothing, keep one")
        if seed < 0:
            yield Finding(("seeds", at), f"seeds[{at}] must be at least 0, not {seed}")


def against_is_an_entry(document: Document, spec: ComparisonSpec) -> Iterator[Finding]:
    """`against:` names an entry of this file."""
    if spec.against is not None and spec.against not in spec.entries:
        yield Finding(("against",), f"no entry {quoted(spec.against)}{did_you_mean(spec.against, spec.entries)}")


def grids_offer_a_choice(document: Document, spec: ComparisonSpec) -> Iterator[Finding]:
    """A grid has at least two lines, all different, and a baseline's lines hold no ranker."""
    for name, entry in spec.entries.items():
        here: KeyPath = ("entries", name, "grid")
        if len(entry.grid) == 1:
            yield Finding(here, "a grid of one line leaves no choice: add a line, or write it into the entry")
        for at, line in enumerate(entry.grid):
            if line in entry.grid[:at]:
                yield Finding((*here, at), "this line of the grid is here twice: keep one")
            if entry.baseline and line.ranker:
                yield Finding((*here, at, "ranker"), f"{name} is a baseline and has no ranker: remove it", "key")


def configs_fit(document: Document, spec: ComparisonSpec) -> Iterator[Finding]:
    """Every config that may run is valid, and none sets what the comparison itself sets."""
    blocks: list[tuple[KeyPath, dict[str, object]]] = [(("with",), spec.with_)]
    for name, entry in spec.entries.items():
        blocks.append((("entries", name, "with"), entry.with_))
        blocks += [(("entries", name, "grid", at, "with"), line.with_) for at, line in enumerate(entry.grid)]
    for where, block in blocks:
        for key in sorted(RESERVED.keys() & block.keys()):
            yield Finding((*where, key), f"{quoted(key)} cannot stand in with:: {RESERVED[key]}", "key")
    for name, entry in spec.entries.items():
        component = component_of(entry)
        for candidate in candidates(spec, name):
            config = {key: value for key, value in candidate.config.items() if key != "seed"}
            _, findings = shape.fit(component.config, config, f"config of {component.name}")
            for finding in findings:
                yield Finding(candidate.place(finding.where), finding.message, finding.at)


def dataset_is_a_stage(spec: ComparisonSpec, plan: Plan) -> Iterator[Finding]:
    """`dataset:` names a stage that gives a training set."""
    makers = [stage.name for stage in plan.stages if training_sets(stage)]
    names = {stage.name for stage in plan.stages}
    if spec.dataset not in names:
        message = f"pipeline {quoted(plan.name)} has no stage {quoted(spec.dataset)}{did_you_mean(spec.dataset, names)}"
        yield Finding(("dataset",), message)
    elif spec.dataset not in makers:
        message = f"stage {quoted(spec.dataset)} of {quoted(plan.name)} makes no training_set{did_you_mean('', makers)}"
        yield Finding(("dataset",), message)


def params_fit(spec: ComparisonSpec, plan: Plan) -> Iterator[Finding]:
    """Every param belongs to the pipeline and takes its value; the one of the seed is a free integer."""
    known = plan.spec.params
    for name, value in spec.params.items():
        if name not in known:
            message = f"pipeline {quoted(plan.name)} has no param {quoted(name)}{did_you_mean(name, known)}"
            yield Finding(("params", name), message, "key")
        elif reason := misfit(known[name], value):
            yield Finding(("params", name), f"param {quoted(name)} {reason}")
    seed = spec.seed_param
    if seed is None:
        return
    if seed not in known:
        yield Finding(
            ("seed_param",), f"pipeline {quoted(plan.name)} has no param {quoted(seed)}{did_you_mean(seed, known)}"
        )
    elif known[seed].type != "integer":
        yield Finding(("seed_param",), f"param {quoted(seed)} is a {known[seed].type}: a seed is an integer")
    elif seed in spec.params:
        yield Finding(("params", seed), f"{quoted(seed)} takes each run's seed: remove it from params", "key")


def rankers_fit_the_roles(spec: ComparisonSpec, plan: Plan) -> Iterator[Finding]:
    """A ranker makes sense for the feedback and the domain of the training set."""
    declaration = _declaration(spec, plan)
    if declaration is None:
        return
    for name in spec.entries:
        for candidate in candidates(spec, name):
            ranker, _ = shape.fit(RankerConfig, candidate.config.get("ranker"))
            if ranker is None:
                continue
            whole = ranker.complete()
            reasons = {
                "head": refusals.no_funnel(declaration) if whole.head == "esmm" else None,
                "domain": refusals.no_domain(declaration) if whole.domain == "star" else None,
                "gamma": whole.gamma and refusals.gamma_of_another_length(declaration.feedback, whole.gamma),
            }
            for part, reason in reasons.items():
                if reason:
                    written = part if part in candidate.config["ranker"] else "name"
                    yield Finding(candidate.place(("ranker", written)), reason)


def references_name_tasks(spec: ComparisonSpec, plan: Plan) -> Iterator[Finding]:
    """A published number is about a task of the training set."""
    declaration = _declaration(spec, plan)
    known = [task.name for task in tasks_of(declaration)] if declaration else []
    for at, reference in enumerate(spec.references):
        if known and reference.task not in known:
            message = f"no task {quoted(reference.task)}{did_you_mean(reference.task, known)}"
            yield Finding(("references", at, "task"), message)


def _declaration(spec: ComparisonSpec, plan: Plan) -> Declaration | None:
    """Return the roles that the training set's stage declares; None when it declares none."""
    stage = next((stage for stage in plan.stages if stage.name == spec.dataset), None)
    if stage is None or not issubclass(stage.component.config, Roles):
        return None
    defaults = {name: param.default for name, param in plan.spec.params.items()}
    return stage.component.config.model_validate(resolve_config(stage, defaults)).declaration()


RULES: tuple[Callable[[Document, ComparisonSpec], Iterator[Finding]], ...] = (
    named_like_its_file,
    seeds_are_different,
    against_is_an_entry,
    grids_offer_a_choice,
    configs_fit,
)
PLAN_RULES: tuple[Callable[[ComparisonSpec, Plan], Iterator[Finding]], ...] = (
    dataset_is_a_stage,
    params_fit,
    rankers_fit_the_roles,
    references_name_tasks,
)
"""Every rule, in the order in which a reader would check by hand."""
