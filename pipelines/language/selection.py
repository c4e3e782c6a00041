"""Which part of a pipeline runs, and which is taken as it was last made? `--from STAGE` and `--only STAGE`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from components.platform.errors import BadInputError, MissingError, did_you_mean
from pipelines.language.plan import Plan
from pipelines.language.problems import listed


@dataclass(frozen=True)
class Selection:
    """A part of a pipeline.

    Attributes:
        extent: `all` stages, each from the store where it can; one stage and those after it (`from`); or `only` one.
        stage: that stage; empty for `all`.
    """

    extent: Literal["all", "from", "only"] = "all"
    stage: str = ""

    @classmethod
    def of(cls, from_: str | None, only: str | None) -> Selection:
        """Return what the two options of the command line ask for.

        Raises:
            BadInputError: both are given.
        """
        if from_ and only:
            raise BadInputError("--from and --only exclude each other: give one of them")
        return cls("from", from_) if from_ else cls("only", only) if only else cls()

    def __str__(self) -> str:
        """Return the options that ask for it."""
        return f"--{self.extent} {self.stage}" if self.stage else ""


ALL = Selection()


def select(plan: Plan, selection: Selection) -> Plan:
    """Return the plan of a part of a pipeline.

    The stages asked for run anew, whatever the store has. What they wait for, directly or not, is
    taken from the store as it was last made, also where its cache is off. Other stages are left out.

    Raises:
        MissingError: there is no such stage.
    """
    if selection.extent == "all":
        return plan
    names = [stage.name for stage in plan.stages]
    if selection.stage not in names:
        raise MissingError(f"{plan.name} has no stage {selection.stage!r}{did_you_mean(selection.stage, names)}")
    anew = {selection.stage}
    if selection.extent == "from":
        for stage in plan.stages:
            anew |= {stage.name} if anew & {*stage.upstream} else set()
    taken = _before(plan, anew) - anew
    stages = tuple(
        replace(stage, start="anew" if stage.name in anew else "taken")
        for stage in plan.stages
        if stage.name in anew | taken
    )
    return replace(plan, stages=stages)


def refuse_missing(plan: Plan) -> None:
    """Make sure that the store has every stage that is to be taken from it.

    Args:
        plan: a plan with predictions.

    Raises:
        MissingError: one is not there; the message says why, and where the run can start instead.
    """
    missing = [found for found in plan.predictions if found.state == "missing"]
    if missing:
        told = "; ".join(f"{found.stage}: {found.why}" for found in missing)
        raise MissingError(
            f"{plan.name} cannot start there, because {listed(repr(found.stage) for found in missing)} must come from "
            f"the store and cannot ({told}): use --from {missing[0].stage}, or leave --from and --only out"
        )


def _before(plan: Plan, names: Iterable[str]) -> set[str]:
    """Return every stage that must have run before one of `names` can."""
    found = set(names)
    for stage in reversed(plan.stages):
        if stage.name in found:
            found |= {*stage.upstream}
    return found
