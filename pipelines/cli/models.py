"""Which commands look at models and move the champion? `models`, `promote`, `rollback`, `history`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.show.terminal import frameless, show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from registry.champion.ledger import Entry
    from registry.champion.promotion import Promotions
    from registry.serving.model.contract import RegisteredVersion
    from registry.versions.client import ListedVersion

_COLOURS = {
    "promoted": "green",
    "rolled back": "yellow",
    "refused": "red",
    "moved outside": "magenta",
    "removed outside": "magenta",
    "lifted": "green",
    "asked": "cyan",
    "approved": "green",
    "declined": "red",
    "held": "yellow",
    "released": "green",
}
Model = Annotated[str, typer.Argument(help="Name of a registered model.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; the ledger keeps it.")]


def models(
    model: Annotated[str | None, typer.Argument(help="Only this model; all of them when left out.")] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Remove aliases of our models whose version was deleted, as older MLflow servers keep."
        ),
    ] = False,
) -> None:
    """List registered versions with their aliases."""
    promotions = promotions_here()
    registry = promotions.registry
    names = (model,) if model is not None else registry.models()
    if not names:
        typer.echo("no model is registered yet: run a pipeline with register_model")
        return
    listed = [one for name in names for one in registry.versions(name)]
    ours = [name for name in names if any(one.version.model == name and one.version.digest for one in listed)]
    if repair:
        for name in names if model is not None else ours:  # those of others only when they are named
            for alias, number in registry.remove_dangling(name).items():
                typer.echo(f"{name}: alias {alias} pointed at v{number}, which was deleted, and is removed")
    show(versions_table(listed, {name: _taken_back(promotions, name) for name in ours}))
    for name in filter(_is_ours, ours):
        for line in _said_of(promotions, name):
            typer.echo(line)
    for name in names:
        for alias, number in registry.dangling(name).items():
            typer.echo(
                f"{name}: alias {alias} points at v{number}, which was deleted: move it, or remove it with --repair",
                err=True,
            )


def promote(
    model: Model,
    version: Annotated[int, typer.Argument(min=1, help="Version to make champion.")],
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    lift: Annotated[
        bool,
        typer.Option("--lift", help="Only let pipelines promote this version again after a rollback took it back."),
    ] = False,
) -> None:
    """Make a version the champion by hand: parity and files are checked, the gate is not asked."""
    from pipelines.run.asking import user_name
    from registry.champion.promotion import Request

    promotions = promotions_here()
    if lift:
        entry = promotions.lift(model, version, Request(actor=user_name(), reason=reason or "by hand"))
        typer.echo(f"{model}: pipelines may promote v{version} again (ledger entry {entry.sequence})")
        return
    promotions.registry.version(model, version)
    champion = promotions.champion(model)
    now = f"v{champion.version}" if champion else "none"
    if not yes and (champion is None or champion.version != version):
        typer.confirm(f"Make {model} v{version} champion (now {now}) without asking the gate?", abort=True)
    entry = promotions.promote(
        model,
        version,
        Request(actor=user_name(), reason=f"by hand, gate overridden{f': {reason}' if reason else ''}"),
        decided_on=champion,
    )
    typer.echo(outcome_line(entry))


def rollback(
    model: Model,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Version; the nearest earlier champion when left out.")
    ] = None,
    reason: Reason = "",
) -> None:
    """Make an earlier champion the champion again; the present one stays out of promotion by pipelines until lifted."""
    from pipelines.run.asking import user_name
    from registry.champion.promotion import Request

    entry = promotions_here().rollback(model, Request(actor=user_name(), reason=reason or "by hand"), to)
    typer.echo(outcome_line(entry))
    if entry.action == "rolled back" and entry.previous is not None:
        typer.echo(
            f"v{entry.previous} is not promoted by pipelines until `rankmill promote {model} {entry.previous} --lift`"
        )


def history(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Every entry of the ledger, as JSON.")] = False,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", help="Say which version was champion at this time instead, such as 2026-01-31T02:00:00Z (UTC)."
        ),
    ] = None,
) -> None:
    """Show what happened to a model: who made which version champion, when and why."""
    from pipelines.cli.people import said_of
    from pipelines.language.params import parse_moment
    from registry.champion.ledger import champion_at

    promotions = promotions_here()
    moment = parse_moment(at) if at is not None else None
    entries = promotions.ledger.entries(model) if _is_ours(model) else ()
    if not entries:
        # An unknown model is an error, not an empty history.
        versions = promotions.registry.versions(model)
        if versions and not any(listed.version.digest for listed in versions):
            typer.echo(f"{model} has no version that Rankmill registered: it is not ours, and has no history here")
            return
    if moment is not None:
        entry = champion_at(entries, moment)
        live = f"v{entry.champion} {entry.digest[:12]}".strip() if entry and entry.champion is not None else "none"
        typer.echo(f"champion of {model} at {moment:%Y-%m-%d %H:%M:%S} UTC: {live}")
    elif as_json:
        from pydantic import TypeAdapter

        from registry.champion.ledger import Entry

        typer.echo(TypeAdapter(list[Entry]).dump_json(list(entries), indent=2).decode())
    elif not entries:
        typer.echo(f"nothing has happened to {model} yet")
    else:
        show(history_table(entries))
        _say_taken_back(promotions, model)
        for line in said_of(promotions, model):
            typer.echo(line)
    for line in drift(promotions, model, entries):
        typer.echo(line, err=as_json)


def drift(promotions: Promotions, model: str, entries: Sequence[Entry]) -> list[str]:
    """Return what has become of the champion alias since the ledger's last move; the next move writes it down."""
    from features.ground.errors import RankmillError
    from registry.champion.ledger import champion, pending
    from registry.champion.promotion import is_recorded, outside_reason
    from registry.versions.client import CHAMPION

    if pending(entries) is not None:
        return []
    try:
        present = promotions.registry.alias(model, CHAMPION)
    except RankmillError as error:
        return [f"where the alias points now is not known: {error}"]
    recorded = champion(entries)
    if is_recorded(present, recorded):
        return []
    was = f"v{recorded.champion}" if recorded and recorded.champion is not None else "none"
    why = outside_reason(present, recorded, promotions.here).partition("; the time is")[0]
    gone = _gone(promotions, model, present)
    now = f"v{present.version}" if present else "none"
    return [f"the champion in MLflow is {now} now, the ledger's last is {was}: {gone or why}"]


def _gone(promotions: Promotions, model: str, present: RegisteredVersion | None) -> str:
    from registry.versions.client import CHAMPION

    if present is not None or model not in promotions.registry.models():
        return "" if present is not None else "the model is gone from this MLflow"
    number = promotions.registry.dangling(model).get(CHAMPION)
    if number is None:
        return ""
    return f"its alias points at v{number}, which was deleted; `rankmill rollback {model}` moves it"


def versions_table(
    versions: Sequence[ListedVersion], taken_back: Mapping[str, Mapping[str, Entry]] | None = None
) -> Table:
    """Return one row per version: name and digest, aliases, age, test AUC, the gate's verdict."""
    from rich.table import Column
    from rich.text import Text

    table = frameless(
        Column("model", overflow="fold", min_width=20),
        Column("", no_wrap=True),
        Column("aliases", no_wrap=True),
        Column("created", no_wrap=True),
        Column("test AUC", no_wrap=True),
        Column("verdict"),
    )
    for listed in versions:
        version = listed.version
        back = (taken_back or {}).get(version.model, {}).get(version.digest)
        verdict = listed.tags.get("rankmill.verdict", "–")
        # As text: the names of others may look like markup.
        row = (
            f"{version.model}\n{version.digest[:12] or 'not ours'}",
            f"v{version.version}",
            "\n".join(listed.aliases) or "–",
            f"{version.created_at:%Y-%m-%d\n%H:%M} UTC",
            _figures(listed.tags),
            f"{verdict}\n{back.held}" if back else verdict,
        )
        table.add_row(*map(Text, row))
    return table


def history_table(entries: Sequence[Entry]) -> Table:
    """Return one row per event; an announcement is shown only while nothing settles it."""
    from rich.table import Column
    from rich.text import Text

    from registry.champion.ledger import INTENTS, pending

    table = frameless(
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
            Text(entry.actor),
            Text(entry.reason, overflow="fold"),
        )
    return table


def outcome_line(entry: Entry) -> str:
    """Return one sentence about a move of the champion."""
    before = f"v{entry.previous}" if entry.previous is not None else "none"
    if entry.action == "unchanged":
        return f"{entry.model}: v{entry.previous} is champion already, nothing changed (ledger entry {entry.sequence})"
    return f"{entry.model}: champion v{entry.version} (was {before}), {entry.action} (ledger entry {entry.sequence})"


def _is_ours(model: str) -> bool:
    """Return whether a model could be one of ours: others take any name, and the ledger's folders are named by it."""
    return re.fullmatch(r"[a-z][a-z0-9_]{0,62}", model) is not None


def _taken_back(promotions: Promotions, model: str) -> dict[str, Entry]:
    """Return the entries that took versions of a model back; a ledger that cannot be read hides no versions."""
    from features.ground.errors import RankmillError

    try:
        return promotions.taken_back(model) if _is_ours(model) else {}
    except RankmillError as error:
        typer.echo(f"what was taken back is not known: {error}", err=True)
        return {}


def _said_of(promotions: Promotions, model: str) -> list[str]:
    """Return what people said of a model, and who else moved its champion; nothing of a ledger that cannot be read."""
    from features.ground.errors import RankmillError
    from pipelines.cli.people import said_of
    from registry.champion.consent import moment_said
    from registry.champion.ledger import champion

    try:
        entries = promotions.ledger.entries(model)
        lines = [*said_of(promotions, model), *(f"{model}: {line}" for line in drift(promotions, model, entries))]
        last = champion(entries)
        if promotions.protection.champion and last and last.action in ("moved outside", "removed outside"):
            lines.append(
                f"{model}: the champion is protected and was {last.action.removesuffix(' outside')} in MLflow itself, "
                f"seen {moment_said(last.at)}: see `rankmill history {model}`"
            )
    except RankmillError:
        return []  # told already where the versions that were taken back are looked up
    return lines


def _say_taken_back(promotions: Promotions, model: str) -> None:
    for entry in promotions.taken_back(model).values():
        digest = entry.previous_digest
        typer.echo(
            f"v{entry.previous} {digest[:12]} was {entry.held} and stays out of promotion by pipelines until lifted"
        )


def _figures(tags: dict[str, str]) -> str:
    found = {name.split(".")[2]: value for name, value in tags.items() if name.startswith("rankmill.test.")}
    return "\n".join(f"{task} {value}" for task, value in sorted(found.items())) or "–"


def promotions_here() -> Promotions:
    """Return the promotions of the registry and the ledger that the environment names."""
    from components.platform.settings import Settings, quiet_engines
    from registry.champion.ledger import Ledger
    from registry.champion.promotion import Promotions
    from registry.versions.client import Registry

    quiet_engines()
    settings = Settings.from_environment()
    return Promotions(Registry(settings.tracking_uri, settings.mlflow_artifacts), Ledger(settings.ledger))
