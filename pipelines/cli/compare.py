"""Which ranker is better on this data, and how sure is that? `rankmill compare`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.platform.errors import BadInputError, RankmillError
from components.platform.settings import Settings, quiet_engines
from pipelines.cli.plan import At

if TYPE_CHECKING:
    from pipelines.compare.load import Comparison


def compare(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or files of comparisons; all when none is given.", metavar="NAME")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run the first so many seeds; all when left out.")] = None,
    only: Annotated[str, typer.Option(help="Entries to run, separated by commas; all when left out.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for RESULTS.md, results/ and images/; docs/, or beside a file of your own."),
    ] = None,
    at: At = None,
    render: Annotated[bool, typer.Option("--render", help="Only write the page anew from what is recorded.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the comparison files.")] = False,
) -> None:
    """Train entries over seeds, judge them on the test split, and write RESULTS.md: in docs/, or beside an own file.

    Finished runs come from the store, so an interrupted comparison goes on where it was.
    """
    from pipelines.compare.load import comparison_file, comparison_names, load_comparison
    from pipelines.compare.results import docs_of
    from pipelines.compare.run import chosen_entries, chosen_seeds
    from pipelines.language.params import parse_moment

    moment = parse_moment(at) if at else None
    files = {path.stem: path for path in map(comparison_file, names or comparison_names())}
    places = {name: out.absolute() if out else docs_of(path) for name, path in files.items()}
    if render:
        _publish(places, files)
        return
    wanted = [load_comparison(path) for path in files.values()]
    if only and len(wanted) != 1:
        raise BadInputError("--only names entries of one comparison: name that comparison")
    entries = [name.strip() for name in only.split(",") if name.strip()]
    # Everything is checked before anything runs.
    chosen = [(one, chosen_seeds(one, seeds), chosen_entries(one, entries)) for one in wanted]
    if check:
        for one, run_seeds, run_entries in chosen:
            typer.echo(f"{one.spec.name}: {len(run_entries)} entries, {len(run_seeds)} seeds, no problems")
        return
    quiet_engines()
    settings = Settings.from_environment()
    done = [_compare(*one, settings, places[one[0].spec.name], moment) for one in chosen]
    _publish(places, files)
    if not all(done):
        raise typer.Exit(1)


def _publish(places: Mapping[str, Path], files: Mapping[str, Path]) -> None:
    """Write the page of every folder that has records."""
    from pipelines.compare.results import publish

    for docs in dict.fromkeys(places.values()):
        if (docs / "results").is_dir():
            for path in publish(docs, files):
                typer.echo(path)


def _compare(
    comparison: Comparison,
    seeds: tuple[int, ...],
    entries: tuple[str, ...],
    settings: Settings,
    docs: Path,
    at: datetime | None,
) -> bool:
    """Run one comparison and keep its record; return whether all of it ended well."""
    from pipelines.compare.results import keep
    from pipelines.compare.run import run_comparison
    from pipelines.show.terminal import quiet_terminal

    name = comparison.spec.name
    log = settings.runs / f"compare_{name}" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with quiet_terminal(log) as console:

        def tell(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        tell(f"{name} · {len(entries)} entries · {len(seeds)} seeds · log {log}")
        try:
            outcome = run_comparison(comparison, seeds, entries, settings, tell, at)
        except RankmillError as error:
            # Data that a user has to bring may be absent: the other comparisons run all the same.
            tell(f"{name} was left out: {error}")
            return False
    typer.echo(f"{name}: {outcome.trainings} trainings, {outcome.cached} from the store")
    if outcome.record is not None:
        keep(docs, outcome.record)
    for entry, sentence in outcome.failures.items():
        typer.echo(f"{entry} was left out: {sentence}", err=True)
    return not outcome.failures
