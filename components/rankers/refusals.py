"""For which roles of columns does a ranker make no sense, as far as the configs alone tell? Without torch.

`rankmill validate` and the parts themselves say it in the same words. What only the rows can tell (how many there
are per cluster, how often each feedback happens) is refused when the ranker is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from components.platform.errors import did_you_mean
from components.rankers.tasks import HIDDEN, LOGIT, tasks_of
from features.declaration import Declaration


def no_funnel(declaration: Declaration) -> str | None:
    """Return why head `esmm` cannot chain the feedback, or None when it can."""
    feedback = declaration.feedback
    if len(feedback) >= 2 and declaration.funnel:
        return None
    what = "one feedback type" if len(feedback) < 2 else "feedback types that are no funnel"
    return (
        f"ranker 'esmm' needs a funnel of at least two feedback types, the training set has {what} "
        f"({', '.join(feedback)}): declare a funnel or choose another ranker"
    )


def no_clicks(declaration: Declaration) -> str | None:
    """Return why `cvr_space: click` has no step to learn among the rows that reached it, or None when it has."""
    if len(declaration.feedback) >= 2 and declaration.funnel:
        return None
    return (
        "cvr_space 'click' learns the deeper steps of a funnel from the rows that reached them, and the training set "
        f"has no deeper step ({', '.join(declaration.feedback)}): declare a funnel, or leave cvr_space out"
    )


def no_times(ranker: str) -> str:
    """Return why a ranker of timed events has none to read."""
    return (
        f"ranker {ranker!r} reads events with their times, and the training set has no field of elapsed times: "
        "include the times of a history in build_training_set, or choose another ranker"
    )


def no_vectors(part: str, otherwise: str, of: str = "the training set") -> str:
    """Return why a part that reads vectors of values (embedding `frozen`, sequence `muse`) has none to read."""
    return (
        f"{part} reads vectors of values, and {of} has none: put attach_vectors between the training set and the "
        f"training, or choose {otherwise}"
    )


def no_sides(ranker: str, stage: str) -> str:
    """Return why a stage that finds items by their vectors cannot ask this ranker for some."""
    return f"ranker {ranker!r} scores pairs, and {stage!r} finds items by their vectors: choose ranker 'gnolr'"


def no_history(name: str, known: Sequence[str]) -> str:
    """Return why a map of `sequence` cannot name this."""
    what = f"name some of {', '.join(known)}" if known else "it has none, so name one encoder for all"
    return f"sequence names {name!r}, which is no history of the training set{did_you_mean(name, known)}: {what}"


def no_pair(name: str, known: Iterable[str]) -> str:
    """Return why interaction `optinter` cannot pair this with a field."""
    return (
        f"interaction 'optinter' pairs {name!r}, which is no categorical field of the training set"
        f"{did_you_mean(name, known)}: name two of them"
    )


def no_domain(declaration: Declaration) -> str | None:
    """Return why domain part `star` has nothing to keep weights for, or None when it has."""
    if declaration.domain is not None:
        return None
    return (
        "domain part 'star' has one set of weights per domain and the training set declares no domain: "
        "declare its column, or choose domain 'adaptdhm' or 'none'"
    )


def no_domain_input(domain: str) -> str:
    """Return why domain part `star` cannot tell the domain of a row."""
    return (
        f"domain part 'star' reads the domain {domain!r} from an input of that name, and the training set "
        "has no such categorical field: add it to the features, or choose domain 'adaptdhm' or 'none'"
    )


def gamma_of_another_length(feedback: Sequence[str], gamma: Sequence[float]) -> str | None:
    """Return why `gamma` does not belong to the feedback, or None when it does."""
    if len(gamma) == len(feedback):
        return None
    return (
        f"gamma has {len(gamma)} numbers for {len(feedback)} feedback types ({', '.join(feedback)}): "
        "give one each, or leave gamma out"
    )


def gamma_that_is_no_scale(feedback: Sequence[str], gamma: Sequence[float]) -> dict[int, str]:
    """Return what is wrong with each entry of `gamma` that cannot scale a cosine, by position."""
    return {
        position: f"gamma of {name!r} is {value:g}, must be positive and finite: leave gamma out"
        for position, (name, value) in enumerate(zip(feedback, gamma, strict=False))
        if not 0 < value < math.inf
    }


def names_with_two_meanings(declaration: Declaration, inputs: Iterable[str]) -> dict[str, str]:
    """Return the names that two of a ranker's inputs, tasks and other outputs have, each with a sentence.

    Fields and tasks are inputs and outputs of one graph.
    """
    tasks = [task.name for task in tasks_of(declaration)]
    taken = {HIDDEN, *(name + LOGIT for name in tasks)}
    twice = {name for name in tasks if tasks.count(name) > 1}
    found = ({*tasks} & taken) | ({*inputs} & {*tasks, *taken}) | twice
    return {
        name: f"the name {name!r} means two things, an input or output of the ranker has it: rename it"
        for name in sorted(found)
    }
