"""Which probabilities does a ranker predict, and over which rows is each one judged? Without torch."""

from __future__ import annotations

from itertools import pairwise

from features.declaration import Declaration, Frozen, Name, conditional_name

HIDDEN = "hidden"
"""Output with the ranker's last hidden representation."""
LOGIT = "_logit"
"""Suffix of outputs that only the loss reads."""
AUXILIARY = "auxiliary/"
"""Prefix of outputs that only the loss reads, before the name of what left them; no name holds a slash."""


class Task(Frozen):
    """One predicted probability."""

    name: Name
    """Output name."""
    label: Name
    """Feedback that is predicted."""
    given: Name | None = None
    """Feedback that a row must have to be judged; None judges every impression."""


def tasks_of(declaration: Declaration) -> tuple[Task, ...]:
    """Return the tasks: every feedback over all impressions, then, in a funnel, each step given the one before."""
    feedback = declaration.feedback
    entire = tuple(Task(name=name, label=name) for name in feedback)
    if not declaration.funnel:
        return entire
    return entire + tuple(
        Task(name=conditional_name(deep, near), label=deep, given=near) for near, deep in pairwise(feedback)
    )
