"""How do people decide about a model? `approve` and `refuse` answer a question, `hold` and `lift` stop pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.models import Model, outcome_line, promotions_here

if TYPE_CHECKING:
    from registry.champion.ledger import Entry
    from registry.champion.promotion import Promotions

Version = Annotated[int, typer.Argument(min=1, help="Version that somebody is asked about.")]
Why = Annotated[str, typer.Option("--note", help="Why; the ledger keeps it.")]


def approve(model: Model, version: Version, note: Why = "") -> None:
    """Say yes to a version that the gate let through and that waits for a person: it becomes champion."""
    _answer(model, version, note, approved=True)


def refuse(model: Model, version: Version, note: Why = "") -> None:
    """Say no to a version that the gate let through and that waits for a person: the champion stays."""
    _answer(model, version, note, approved=False)


def hold(
    model: Model,
    because: Annotated[str, typer.Option("--because", help="Why; whoever wonders is told.")],
    until: Annotated[
        str | None,
        typer.Option("--until", help="Day or time it ends by itself, such as 2026-12-02 (its beginning, UTC)."),
    ] = None,
) -> None:
    """Keep every pipeline from moving a model's champion; its gate goes on judging, and people may move it by hand."""
    from features.ground.errors import BadInputError
    from pipelines.language.params import parse_moment
    from pipelines.run.asking import user_name
    from registry.champion.promotion import Request

    if not because.strip():
        raise BadInputError("--because is empty: say why, whoever wonders is told")
    end = parse_moment(until) if until is not None else None
    promotions_here().hold(model, Request(actor=user_name(), reason=because.strip()), end)
    for line in said_of(promotions_here(), model):
        typer.echo(line)


def lift(
    model: Model, because: Annotated[str, typer.Option("--because", help="Why; the ledger keeps it.")] = ""
) -> None:
    """Let pipelines move the champion of a held model again."""
    from pipelines.run.asking import user_name
    from registry.champion.promotion import Request

    entry = promotions_here().release(model, Request(actor=user_name(), reason=because.strip() or "by hand"))
    typer.echo(f"{model}: pipelines may move the champion again (ledger entry {entry.sequence})")


def said_of(promotions: Promotions, model: str) -> Iterator[str]:
    """Yield what people said about a model that holds now, and what they are asked."""
    from datetime import UTC, datetime

    from registry.champion.consent import hold, hold_said, moment_said, open_questions

    entries, now = promotions.ledger.entries(model), datetime.now(UTC)
    if held := hold(entries, now):
        yield f"{model} is {hold_said(held)}: no pipeline moves its champion until `rankmill lift {model}`"
    for question in open_questions(entries):
        if question.asked is None or (question.until is not None and question.until <= now):
            continue
        where = (
            f"in Airflow, run {question.run_id} of {question.actor}"
            if question.asked.through == "airflow"
            else f"`rankmill approve {model} {question.version}` or `rankmill refuse {model} {question.version}`"
        )
        until = f" until {moment_said(question.until)}" if question.until else ""
        by = f" of {', '.join(question.asked.by)}" if question.asked.by else ""
        yield f"{model} v{question.version} waits{until} for an answer{by}: {where}"


def _answer(model: str, version: int, note: str, *, approved: bool) -> None:
    from components.release.promote_model.case import VERDICT
    from features.ground.errors import BadInputError
    from pipelines.run.asking import user_name
    from registry.champion.consent import hold_said
    from registry.champion.promotion import Request

    promotions, user = promotions_here(), user_name()
    wanted = promotions.registry.version(model, version)
    champion = promotions.champion(model)
    question = _question(promotions, model, version, wanted.digest, user)
    if approved and (held := promotions.held(model)):
        raise BadInputError(f"{model} is {hold_said(held)}: `rankmill lift {model}` first")
    if approved:
        promotions.protection.check(question.actor, model)
    promotions.answer(question, approved=approved, by=user, reason=note)
    said = f"{'approved' if approved else 'declined'} by {user}{f' ({note})' if note else ''}"
    request = Request(
        actor=question.actor,
        reason=f"{question.reason}; {said}",
        run_id=question.run_id,
        evidence=question.evidence,
    )
    if approved:
        typer.echo(outcome_line(promotions.promote(model, version, request, decided_on=champion)))
    else:
        entry = promotions.refuse(model, version, request)
        typer.echo(f"{model}: v{version} is not promoted, {said} (ledger entry {entry.sequence})")
    promotions.registry.tag(model, version, VERDICT, "promoted" if approved else "refused")


def _question(promotions: Promotions, model: str, version: int, digest: str, user: str) -> Entry:
    """Return the question about a version that this person may answer here."""
    from datetime import UTC, datetime

    from features.ground.errors import BadInputError, MissingError
    from registry.champion.consent import moment_said, open_questions
    from registry.champion.protection import NotAllowedError

    asked = [one for one in open_questions(promotions.ledger.entries(model)) if one.digest == digest and one.asked]
    if not asked:
        raise MissingError(
            f"nobody is asked about {model} v{version} now (the champion may have moved since): run promote_model "
            f"again, or see `rankmill history {model}`"
        )
    question = next((one for one in reversed(asked) if one.asked and one.asked.through == "command line"), None)
    if question is None or question.asked is None:
        raise BadInputError(
            f"{model} v{version} is asked about in Airflow, run {asked[-1].run_id} of {asked[-1].actor}: answer it "
            "there, where Airflow knows who you are"
        )
    if question.until is not None and question.until <= datetime.now(UTC):
        raise BadInputError(
            f"the time to answer about {model} v{version} was over at {moment_said(question.until)}: run promote_model "
            "again"
        )
    if question.asked.by and user not in question.asked.by:
        raise NotAllowedError(
            f"{user} may not answer whether {model} v{version} becomes champion: ask {', '.join(question.asked.by)}"
        )
    if not question.asked.by:
        promotions.protection.check(user, model)
    return question
