"""Where did an answer come from? `rankmill trace`: version, artifacts, runs and code behind one logged question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.show.terminal import frameless, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from pipelines.record.trace import Origin, Trace


def trace(
    request: Annotated[str, typer.Argument(help="Id of the question, as the answer gave it.", metavar="REQUEST_ID")],
    service: Annotated[str | None, typer.Option("--service", help="Look in this service's log only.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Look at what was answered on this day only, such as 2026-01-31 (UTC).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Say which version answered a question, with which error memory, and what it was made from."""
    from components.platform.settings import Settings, quiet_engines
    from pipelines.language.params import parse_moment
    from pipelines.record.trace import trace as traced

    quiet_engines()
    day = parse_moment(at).replace(hour=0, minute=0, second=0, microsecond=0) if at is not None else None
    found = traced(Settings.from_environment(), request, service=service, day=day)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for line in trace_lines(found):
        typer.echo(line)
    typer.echo("\nmade from, nearest first")
    show(origin_table(found.chain))
    if found.memory:
        typer.echo("\nerror memory, and what else it was made from")
        show(origin_table(found.memory))
    for remark in found.remarks:
        typer.echo(f"not known: {remark}" if remark.startswith("no ") else remark)


def trace_lines(found: Trace) -> Iterator[str]:
    """Yield who answered, and how that version came to answer."""
    for answer in found.answers:
        chance = f", chosen with chance {answer.propensity:g}" if answer.propensity < 1 else ""
        yield (
            f"{answer.at:%Y-%m-%d %H:%M:%S} UTC, {answer.service}: v{answer.version} {answer.digest[:12]} as "
            f"{answer.role}{chance}, {answer.candidates} candidates"
        )
        digest, plus, slots = answer.memory.partition("+")
        yield f"  error memory: {f'{digest[:12]}{plus}{slots}' if answer.memory else 'none'}"
        if answer.degraded:
            yield f"  it had to do without: {', '.join(answer.degraded)}"
    if found.model and found.registered_at:
        yield f"{found.model} v{found.answers[0].version} was registered {found.registered_at:%Y-%m-%d %H:%M:%S} UTC"
    if found.promoted:
        yield found.promoted


def origin_table(origins: Sequence[Origin]) -> Table:
    """Return one row per artifact."""
    from rich.table import Column

    table = frameless(
        *(Column(heading, no_wrap=True) for heading in ("artifact", "digest", "made by", "at (UTC)")),
        Column("rows", justify="right", no_wrap=True),
        Column("window, run, commit", overflow="fold"),
    )
    for one in origins:
        last = (one.window, one.run_id, one.commit)
        table.add_row(
            one.kind,
            one.digest[:12],
            one.made_by or one.component,
            f"{one.created_at:%Y-%m-%d %H:%M}",
            f"{one.rows:,}" if one.rows is not None else "–",
            "\n".join(filter(None, last)) or "–",
        )
    return table
