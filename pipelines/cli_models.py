"""Which commands look at models and move the champion? `models`, `promote`, `rollback`, `history`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.terminal import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Column, Table

    from registry.client import ListedVersion
    from registry.ledger import Entry
    from registry.promotion import Promotions

_COLOURS = {
    "promoted": "green",
    "rolled back": "yellow",
    "refused": "red",
    "moved outside": "magenta",
    "removed outside": "magenta",
}
Model = Annotated[str, typer.Argument(help="Name of a registered model.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; the ledger keeps it.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("models")(models)
    app.command("promote")(promote)
    app.command("rollback")(rollback)
    app.command("history")(history)


def models(
    model: Annotated[str | None, typer.Argument(help="Only this model; all of them when left out.")] = None,
) -> None:
    """List registered versions with their aliases."""
    registry = _promotions().registry
    names = (model,) if model is not None else registry.models()
    if not names:
        typer.echo("no model is registered yet: run a pipeline with register_model")
        return
    show(versions_table([listed for name in names for listed in registry.versions(name)]))


def promote(
    model: Model,
    version: Annotated[int, typer.Argument(min=1, help="Version to make champion.")],
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make a version the champion by hand: parity and files are checked, the gate is not asked."""
    from registry.promotion import Request

    promotions = _promotions()
    promotions.registry.version(model, version)
    champion = promotions.champion(model)
    now = f"v{champion.version}" if champion else "none"
    if not yes and (champion is None or champion.version != version):
        typer.confirm(f"Make {model} v{version} champion (now {now}) without asking the gate?", abort=True)
    entry = promotions.promote(
        model,
        version,
        Request(actor=_actor(), reason=f"by hand, gate overridden{f': {reason}' if reason else ''}"),
        decided_on=champion.version if champion else None,
    )
    typer.echo(outcome_line(entry))


def rollback(
    model: Model,
    to: Annotated[int | None, typer.Option("--to", min=1, help="Version; the champion before when left out.")] = None,
    reason: Reason = "",
) -> None:
    """Make the previous champion the champion again."""
    from registry.promotion import Request

    entry = _promotions().rollback(model, Request(actor=_actor(), reason=reason or "by hand"), to)
    typer.echo(outcome_line(entry))


def history(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Every entry of the ledger, as JSON.")] = False,
    at: Annotated[
        datetime | None, typer.Option("--at", help="Say which version was champion at this UTC time instead.")
    ] = None,
) -> None:
    """Show what happened to a model: who made which version champion, when and why."""
    from registry.ledger import champion_at

    promotions = _promotions()
    entries = promotions.ledger.entries(model)
    if not entries:
        promotions.registry.versions(model)  # an unknown model is an error, not an empty history
    if at is not None:
        entry = champion_at(entries, at.replace(tzinfo=UTC))
        live = entry.champion if entry else None
        typer.echo(f"champion of {model} at {at:%Y-%m-%d %H:%M:%S} UTC: {f'v{live}' if live else 'none'}")
    elif as_json:
        from pydantic import TypeAdapter

        from registry.ledger import Entry

        typer.echo(TypeAdapter(list[Entry]).dump_json(list(entries), indent=2).decode())
    elif not entries:
        typer.echo(f"nothing has happened to {model} yet")
    else:
        show(history_table(entries))


def versions_table(versions: Sequence[ListedVersion]) -> Table:
    """Return one row per version: name and digest, aliases, age, test AUC, the gate's verdict."""
    from rich.table import Column

    table = _table(
        Column("model", no_wrap=True),
        Column("", no_wrap=True),
        Column("aliases", no_wrap=True),
        Column("created", no_wrap=True),
        Column("test AUC", no_wrap=True),
        Column("verdict", no_wrap=True),
    )
    for listed in versions:
        version = listed.version
        table.add_row(
            f"{version.model}\n{version.digest[:12] or 'not ours'}",
            f"v{version.version}",
            "\n".join(listed.aliases) or "–",
            f"{version.created_at:%Y-%m-%d\n%H:%M} UTC",
            _figures(listed.tags),
            listed.tags.get("rankmill.verdict", "–"),
        )
    return table


def history_table(entries: Sequence[Entry]) -> Table:
    """Return one row per event; an announcement is shown only while nothing settles it."""
    from rich.table import Column
    from rich.text import Text

    from registry.ledger import INTENTS, pending

    table = _table(
        "#", Column("at (UTC)", no_wrap=True), Column("what", no_wrap=True), "version", "before", "who", "why"
    )
    left = pending(entries)
    for entry in entries:
        if entry.action in INTENTS and (left is None or entry.sequence != left.sequence):
            continue
        table.add_row(
            str(entry.sequence),
            f"{entry.effective_at or entry.at:%Y-%m-%d %H:%M:%S}",
            Text(f"{entry.action}{' (not settled)' if entry is left else ''}", _COLOURS.get(entry.action, "")),
            f"v{entry.version}",
            f"v{entry.previous}" if entry.previous is not None else "–",
            entry.actor,
            Text(entry.reason, overflow="fold"),
        )
    return table


def outcome_line(entry: Entry) -> str:
    """Return one sentence about a move of the champion."""
    before = f"v{entry.previous}" if entry.previous is not None else "none"
    if entry.action == "unchanged":
        return f"{entry.model}: v{entry.previous} is champion already, nothing changed (ledger entry {entry.sequence})"
    return f"{entry.model}: champion v{entry.version} (was {before}), {entry.action} (ledger entry {entry.sequence})"


def _figures(tags: dict[str, str]) -> str:
    found = {name.split(".")[2]: value for name, value in tags.items() if name.startswith("rankmill.test.")}
    return "\n".join(f"{task} {value}" for task, value in sorted(found.items())) or "–"


def _promotions() -> Promotions:
    from components.settings import Settings, quiet_engines
    from registry.client import Registry
    from registry.ledger import Ledger
    from registry.promotion import Promotions

    quiet_engines()
    settings = Settings.from_environment()
    return Promotions(Registry(settings.tracking_uri, settings.mlflow_artifacts), Ledger(settings.ledger))


def _table(*columns: Column | str) -> Table:
    """Return a table without frames: eighty columns are few."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _actor() -> str:
    """Return the user at the keyboard, as the operating system knows them."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
