"""What will run, in which order, wired how? The read-only plan that CLI, DAG, docs and tests share.

A run of a part of a pipeline (`--from`, `--to`, `--only`, `--except`) has a plan of that part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from components.platform.cache import CacheMode, Change, Start
from components.platform.contract import ComponentSpec
from components.platform.errors import BadInputError, MissingError, did_you_mean
from features.declaration import Window
from pipelines.language.problems import listed
from pipelines.language.spec import PipelineSpec, Placement, verdict_of


@dataclass(frozen=True)
class Wire:
    """One input of a stage: `stage.output` of an earlier stage."""

    input: str
    stage: str
    output: str
    many: bool = False
    """Whether the input takes several artifacts, each by the name of its stage."""

    @property
    def key(self) -> str:
        """What the artifact is called among those that a run of the stage is given."""
        return f"{self.input}.{self.stage}" if self.many else self.input


@dataclass(frozen=True)
class Place:
    """Where a stage is written."""

    path: Path
    line: int


@dataclass(frozen=True)
class PlannedStage:
    """One stage, checked: its component exists, its wires fit, its config is valid with default params."""

    name: str
    """Stage name, also the Airflow task id."""
    component: ComponentSpec
    config: dict[str, Any]
    """The `with:` block as written, `${params.x}` references unresolved."""
    wires: tuple[Wire, ...]
    """Inputs, sorted by input name; of one that takes several, sorted by stage."""
    upstream: tuple[str, ...]
    """Stages that must succeed first (wires and `after`), sorted."""
    group: str | None
    retries: int
    """Tries after the first."""
    retry_delay: timedelta
    """Wait between tries."""
    timeout: timedelta | None
    cache: CacheMode
    placement: Placement = field(default_factory=Placement)
    """Where a scheduler runs it."""
    places: tuple[Place, ...] = ()
    """Where the stage is written: in the pipeline's file and in those it extends, the nearest first."""
    when: str = ""
    """Param that must be true in a run, or `stage.output` that must say something new in it, or the stage is skipped;
    empty where it always runs."""
    written: str = ""
    """Name of the stage of the file that a matrix made this one of; its own where none did."""
    start: Start = "cache"
    """How the stage comes to its result; `select` decides it for a run of a part."""

    @property
    def verdict(self) -> tuple[str, str] | None:
        """The stage and the output that decide whether it runs; None where no earlier stage does."""
        return verdict_of(self.when)


@dataclass(frozen=True)
class Prediction:
    """What one stage would do in a run that starts now."""

    stage: str
    state: Literal["hit", "miss", "runs", "missing"]
    """`hit` comes from the store; `miss` runs because its key is new or its result no longer holds; `runs` runs
    whatever the store has, or cannot be known before an earlier stage ran; `missing` was to be taken from the store,
    which does not have it."""
    key: str | None
    """Cache key, or None when it depends on a stage that has yet to run."""
    why: str
    changes: tuple[Change, ...]
    """How it differs from the most similar earlier run; empty when nothing is known to."""
    seconds: float | None
    """How long the most similar earlier run took; None when there is none."""


@dataclass(frozen=True)
class Plan:
    """A checked pipeline, and what a run of it would do where that was looked up."""

    spec: PipelineSpec
    path: Path
    stages: tuple[PlannedStage, ...]
    """In topological order; ties by position in the file."""
    files: tuple[Path, ...] = ()
    """Every file that says something of it: its own first, those it extends, its folder's defaults, those of stages."""
    window: Window | None = None
    """Interval of events that the run would read; None before `pipelines.run.predict`."""
    predictions: tuple[Prediction, ...] = ()
    """What each stage would do, in the order of `stages`; empty before `pipelines.run.predict`."""

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.spec.name

    @property
    def seconds(self) -> float | None:
        """How long the stages that would run took last time, together; None when one of them never ran."""
        times = [prediction.seconds for prediction in self.predictions if prediction.state != "hit"]
        return None if not self.predictions or None in times else sum(value for value in times if value is not None)

    def stage(self, name: str) -> PlannedStage:
        """Return one stage.

        Raises:
            KeyError: there is no stage of this name.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def meant(self, name: str) -> tuple[str, ...]:
        """Return the stages that a name means: one, or all that a matrix made of the stage that the file calls so."""
        exact = [stage.name for stage in self.stages if stage.name == name]
        return tuple(exact or [stage.name for stage in self.stages if stage.written == name])

    def prediction(self, name: str) -> Prediction | None:
        """Return what one stage would do, or None where it was not looked up."""
        return next((prediction for prediction in self.predictions if prediction.stage == name), None)

    def before(self, names: Iterable[str]) -> set[str]:
        """Return `names` and every stage that must have run before one of them can."""
        needed = set(names)
        for stage in reversed(self.stages):
            if stage.name in needed:
                needed |= {*stage.upstream}
        return needed

    def after(self, names: Iterable[str]) -> set[str]:
        """Return `names` and every stage that cannot run before one of them has."""
        later = set(names)
        for stage in self.stages:
            if later & {*stage.upstream}:
                later.add(stage.name)
        return later


@dataclass(frozen=True)
class Selection:
    """A part of a pipeline."""

    extent: Literal["all", "from", "only"] = "all"
    """`all` stages, each from the store where it can; one stage and those after it (`from`); or `only` one."""
    stage: str = ""
    """That stage; empty for `all`."""
    to: str = ""
    """Last stage; what neither it nor a stage before it needs is left out. Empty goes to the end."""
    without: tuple[str, ...] = ()
    """Stages to leave out, with all that need them."""

    @classmethod
    def of(cls, from_: str | None, only: str | None, to: str | None = None, without: Sequence[str] = ()) -> Selection:
        """Return what the options of the command line ask for.

        Raises:
            BadInputError: `--only` is given with another one.
        """
        if only and (from_ or to or without):
            other = "--from" if from_ else "--to" if to else "--except"
            raise BadInputError(f"{other} and --only exclude each other: give one of them")
        if only:
            return cls("only", only)
        return cls("from" if from_ else "all", from_ or "", to or "", tuple(dict.fromkeys(without)))

    def __str__(self) -> str:
        """Return the options that ask for it."""
        words = [f"--{self.extent} {self.stage}"] if self.stage else []
        words += [f"--to {self.to}"] if self.to else []
        return " ".join([*words, *(f"--except {stage}" for stage in self.without)])


ALL = Selection()


def select(plan: Plan, selection: Selection) -> Plan:
    """Return the plan of a part of a pipeline.

    The stages that `from` and `only` ask for run anew, whatever the store has. What they wait for, directly or not, is
    taken from the store as it was last made, also where its cache is off. Without them each stage of the part comes
    from the store where it can. Other stages are left out.

    Raises:
        MissingError: there is no such stage.
        BadInputError: the options leave out a stage that they name, or everything.
    """
    if selection == ALL:
        return plan
    names = [stage.name for stage in plan.stages]
    for name in filter(None, (selection.stage, selection.to, *selection.without)):
        if not plan.meant(name):
            raise MissingError(f"{plan.name} has no stage {name!r}{did_you_mean(name, names)}")
    part = {*names} if selection.extent == "all" else {*plan.meant(selection.stage)}
    if selection.extent == "from":
        part = plan.after(part)
    if selection.to:
        part &= plan.before(plan.meant(selection.to))
    left = _after(plan, selection.without)
    for option, name in (("from", selection.stage), ("to", selection.to)):
        if name and left >= {*plan.meant(name)}:
            cause = next(one for one in selection.without if _after(plan, [one]) & {*plan.meant(name)})
            why = "" if cause == name else f", since {name} needs {cause}"
            raise BadInputError(f"--{option} {name} and --except {cause} exclude each other{why}: give one of them")
    if not part - left:
        raise BadInputError(f"{selection} leaves no stage of {plan.name} to run: name others")
    anew = part - left
    taken = set() if selection.extent == "all" else plan.before(anew) - anew
    start: Mapping[bool, Start] = {True: "cache" if selection.extent == "all" else "anew", False: "taken"}
    stages = tuple(
        replace(stage, start=start[stage.name in anew]) for stage in plan.stages if stage.name in anew | taken
    )
    return replace(plan, stages=stages)


def skipped(plan: Plan, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the stages that a run with these params skips, in order, each with the param that is false.

    A stage that needs a skipped one is skipped with it, by wire or by `after:`.
    """
    found: dict[str, str] = {}
    for stage in plan.stages:
        causes = [found[name] for name in stage.upstream if name in found]
        if params.get(stage.when) is False:
            causes.insert(0, stage.when)
        if causes:
            found[stage.name] = causes[0]
    return found


def skip_reason(cause: str) -> str:
    """Return why a stage is skipped, by what stands behind its `when`: a param, or an output of an earlier stage."""
    return f"{cause} says nothing new" if "." in cause else f"{cause} is false"


def due(plan: Plan, params: Mapping[str, Any]) -> Plan:
    """Return the plan of a run without the stages that its params skip.

    Raises:
        BadInputError: nothing is left to run.
    """
    gone = skipped(plan, params)
    stages = tuple(stage for stage in plan.stages if stage.name not in gone)
    if gone and all(stage.start == "taken" for stage in stages):
        names = " and ".join(dict.fromkeys(gone.values()))
        raise BadInputError(f"{plan.name}: {skips(plan, params)}, and nothing is left to run: set {names} to true")
    return replace(plan, stages=stages) if gone else plan


def skips(plan: Plan, params: Mapping[str, Any]) -> str:
    """Return in a sentence which stages a run with these params skips; empty where it skips none."""
    gone = skipped(plan, params)
    by = {param: [name for name, cause in gone.items() if cause == param] for param in dict.fromkeys(gone.values())}
    return "; ".join(f"{param} is false and skips {', '.join(names)}" for param, names in by.items())


def _after(plan: Plan, names: Iterable[str]) -> set[str]:
    return plan.after(stage for name in names for stage in plan.meant(name))


def left_out(plan: Plan, selection: Selection) -> str:
    """Return in a sentence which stages of a whole plan `--to` and `--except` leave out; empty where they do not."""
    said = []
    if selection.to:
        kept = plan.before(plan.meant(selection.to))
        gone = [stage.name for stage in plan.stages if stage.name not in kept | _after(plan, selection.without)]
        said += [f"--to {selection.to} leaves out {', '.join(gone)}"] if gone else []
    for name in selection.without:
        needing = [stage.name for stage in plan.stages if stage.name in _after(plan, [name]) - {*plan.meant(name)}]
        more = f", and with it {', '.join(needing)}, which {'need' if len(needing) > 1 else 'needs'} it"
        said.append(f"--except leaves out {name}" + (more if needing else ""))
    return "; ".join(said)


def refuse_missing(plan: Plan) -> None:
    """Make sure that the store has every stage that is to be taken from it.

    Raises:
        MissingError: one is not there; the message says why, and where the run can start instead.
    """
    missing = [prediction for prediction in plan.predictions if prediction.state == "missing"]
    if missing:
        reasons = "; ".join(f"{prediction.stage}: {prediction.why}" for prediction in missing)
        stages = listed(repr(prediction.stage) for prediction in missing)
        raise MissingError(
            f"{plan.name} cannot start there, because {stages} must come from "
            f"the store and cannot ({reasons}): use --from {missing[0].stage}, or leave --from and --only out"
        )
