"""How does a stage ask people before it does what cannot be taken back? A question, an answer, and who is asked where.

A stage calls `RunContext.ask`. Whoever runs it knows where people are: Airflow parks the task until somebody has
answered there, a run of the command line asks whoever sits before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from components.platform.errors import RankmillError
from features.declaration import Frozen
from registry.gate.verdict import Verdict

Place = Literal["airflow", "command line"]


class Question(Frozen):
    """May a version become champion?"""

    verdict: Verdict
    """What the gate said of it."""
    page: str
    """Where the verdict's page lies."""
    link: str = ""
    """Page of the version in MLflow; empty where MLflow has no address."""
    by: tuple[str, ...] = ()
    """Who may answer; empty for whoever may use the place where it is asked."""
    within: timedelta
    """How long it waits."""
    on_deadline: Literal["refuse", "promote"]
    """What no answer in that time is taken for."""

    @property
    def version(self) -> str:
        """The version as a sentence names it."""
        return f"{self.verdict.model} v{self.verdict.challenger}"


class Answer(Frozen):
    """What somebody said to a question."""

    approved: bool
    by: str
    """Who; empty when the time was over."""
    note: str = ""
    """Why, in their words."""


class ApprovalNeededError(RankmillError):
    """A stage waits for the answer of a person; nothing was moved."""

    exit_code = 5

    def __init__(self, question: Question) -> None:
        named = f"{question.verdict.model} {question.verdict.challenger}"
        super().__init__(
            f"{question.version} waits for a person: `rankmill approve {named}` promotes it, `rankmill refuse {named}` "
            f"does not; read {question.page} first"
        )
        self.question = question


@dataclass(frozen=True)
class People:
    """Who can be asked."""

    place: Place = "command line"
    ask: Callable[[Question], Answer | None] = lambda question: None
    """Returns the answer, or None while there is none."""
    answered: bool = False
    """Whether the answer came before the stage was started again: it is about what was shown then."""
