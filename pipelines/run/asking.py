"""How do people read the question whether a version may become champion, and how is their answer read? No Airflow.

Airflow shows Markdown, a terminal lines; both say what the gate saw, cell by cell, and what no answer means.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.platform.approval import Answer, Question
from components.platform.errors import BadInputError
from features.ground.durations import written
from features.ground.markdown import code, prose, table, text
from pipelines.language.hiding import hidden, without_passwords
from registry.champion.protection import NotAllowedError
from registry.evaluation import ALL, Interval
from registry.gate.verdict import Judgement

PROMOTE, REFUSE = "Promote", "Refuse"
"""What one may choose in Airflow."""
NOTE = "note"
"""Field of Airflow's form; the ledger keeps what is written there."""
_MOST = 40
"""Cells that a question shows; the page shows all of them."""


def user_name() -> str:
    """Return who is at the keyboard, as the operating system knows them: no variable of theirs says it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def subject(question: Question) -> str:
    """Return the question in one line."""
    verdict = question.verdict
    instead = f" instead of v{verdict.champion}" if verdict.champion is not None else ", the first one"
    return f"May {question.version} become champion{instead}?"


def body(question: Question) -> str:
    """Return what one must know to answer, as Markdown in which every text stands as it is.

    It says nothing that differs from one try to the next: Airflow shows the first text of a task for good.
    """
    verdict = question.verdict
    against = f"champion v{verdict.champion}" if verdict.champion is not None else "no champion"
    parts = [
        f"The gate let {text(question.version)} through, against {against}, on {verdict.rows:,} rows: "
        f"{prose(verdict.reason)}",
        *(text(warning) for warning in verdict.warnings),
    ]
    cells = shown_cells(verdict.judgements)
    if cells:
        head = ["task", "rows of", "metric", "champion", "challenger", "difference", "interval", "limit", ""]
        parts.append(table(head, [[*map(text, row[:3]), *row[3:]] for row in map(_row, cells)]))
    if len(cells) < len(verdict.judgements):
        parts.append(f"{len(verdict.judgements) - len(cells)} more cells stand on the page.")
    parts.append(f"Verdict page: {code(hidden(without_passwords(question.page)))}")
    if question.link:
        parts.append(f"[{text(question.version)} in MLflow]({question.link})")
    parts.append(text(_otherwise(question)))
    return "\n\n".join(parts)


def lines(question: Question) -> list[str]:
    """Return the same for a terminal, without the question itself."""
    verdict = question.verdict
    found = [verdict.reason, *verdict.warnings]
    for cell in shown_cells(verdict.judgements):
        task, domain, metric, champion, challenger, difference, interval, limit, outcome = _row(cell)
        found.append(
            f"{task} {domain} {metric}: {challenger} against {champion}, {difference} {interval}, limit {limit}: "
            f"{outcome}"
        )
    return [*found, f"page: {question.page}", _otherwise(question)]


def shown_cells(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Return the cells that a question shows: those over all rows first, and of domains the judged ones."""
    whole = [one for one in judgements if one.domain == ALL]
    parts = [one for one in judgements if one.domain != ALL and one.outcome != "not judged"]
    return (whole + parts)[:_MOST]


def _otherwise(question: Question) -> str:
    means = "it is refused" if question.on_deadline == "refuse" else "it becomes champion"
    by = f" It is for {', '.join(question.by)}." if question.by else ""
    return f"Without an answer within {written(question.within)} {means}.{by}"


def _row(cell: Judgement) -> tuple[str, ...]:
    difference = cell.difference or Interval(value=None)
    interval = f"[{_signed(difference.low)}, {_signed(difference.high)}]" if difference.low is not None else "–"
    domain = "all" if cell.domain == ALL else cell.domain
    return (
        cell.task, domain, cell.metric, _plain(cell.champion), _plain(cell.challenger), _signed(difference.value),
        interval, f"{cell.limit:g}", cell.outcome,
    )  # fmt: skip


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def answer_of_event(event: Mapping[str, Any]) -> Answer:
    """Return what Airflow says was answered.

    Raises:
        BadInputError: it is none of the choices.
    """
    if "error" in event:
        raise BadInputError(f"Airflow took no answer ({event['error']}): clear the stage to ask again")
    chosen = list(event.get("chosen_options") or [])
    if chosen not in ([PROMOTE], [REFUSE]):
        raise BadInputError(f"Airflow says {chosen}, which is no answer: clear the stage to ask again")
    user = event.get("responded_by_user")
    note = str((event.get("params_input") or {}).get(NOTE) or "")
    return Answer(approved=chosen == [PROMOTE], by=_named(user) if user else "", note=note if user else "")


def _named(user: Any) -> str:
    name, number = (str(user[key] if isinstance(user, Mapping) else getattr(user, key)) for key in ("name", "id"))
    return name if name == number else f"{name} ({number})"


def check_may_answer(question: Question, person: str) -> None:
    """Make sure that a person is one of those who are asked.

    Raises:
        NotAllowedError: they are not.
    """
    if question.by and person not in question.by:
        raise NotAllowedError(
            f"{person} may not answer whether {question.version} becomes champion: ask {', '.join(question.by)}"
        )


@dataclass(frozen=True)
class Said:
    """What the command line says before anything is asked."""

    approved: bool
    person: str
    note: str = ""

    def answer(self, question: Question, user: str) -> Answer:
        """Return it as the answer to a question, with the user who wrote it where that is another one.

        Raises:
            NotAllowedError: that person is not asked.
        """
        check_may_answer(question, self.person)
        by = self.person if self.person == user else f"{self.person}, as {user} wrote"
        return Answer(approved=self.approved, by=by, note=self.note)


def said_by(approve: str | None, refuse: str | None) -> Said | None:
    """Return what `--approve NAME[:NOTE]` or `--refuse NAME[:NOTE]` says, or None without them.

    Raises:
        BadInputError: both are given, or no name is.
    """
    if approve is not None and refuse is not None:
        raise BadInputError("--approve and --refuse exclude each other: give one of them")
    given = approve if approve is not None else refuse
    if given is None:
        return None
    person, _, note = given.partition(":")
    if not person.strip() or any(not one.isprintable() or one in " ," for one in person.strip()):
        raise BadInputError(f"{given!r} names nobody: write NAME, or NAME:NOTE")
    return Said(approve is not None, person.strip(), note.strip())


def ask_here(question: Question, user: str, tell: Callable[[str], None], read: Callable[[], str]) -> Answer | None:
    """Ask whoever sits at the terminal.

    Args:
        question: what is asked.
        user: who they are, as the operating system knows them.
        tell: shows a line.
        read: returns the next line that is typed, empty at its end.

    Returns:
        The answer, or None where they leave it to later, or may not answer.
    """
    tell(subject(question))
    for line in lines(question):
        tell(f"  {line}")
    if question.by and user not in question.by:
        tell(f"  {user} may not answer: ask {', '.join(question.by)}")
        return None
    tell(f"  {user}: promote, refuse or later? A note may follow, such as: promote checked the page")
    while typed := read():
        word, _, note = typed.strip().partition(" ")
        choices = [choice for choice in ("promote", "refuse", "later") if word and choice.startswith(word.lower())]
        if choices:
            return None if choices == ["later"] else Answer(approved=choices == ["promote"], by=user, note=note.strip())
        tell("  write promote, refuse or later")
    return None
