"""What does a pipeline say, what would a run do, how does it hang together? `show`, `plan`, `graph`, `run`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from components.platform.errors import BadInputError
from pipelines.cli.profile import Profile, use

if TYPE_CHECKING:
    from pipelines.language.plan import Plan, Selection

Pipeline = Annotated[str, typer.Argument(help="Name of a pipeline, or path of its file.", metavar="PIPELINE")]
Params = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="Value of a parameter, NAME=VALUE; may be repeated.")
]
From = Annotated[
    str | None, typer.Option("--from", help="Run this stage and those after it anew; take what they need as it is.")
]
Only = Annotated[str | None, typer.Option("--only", help="Run this stage alone anew; take what it needs as it is.")]
To = Annotated[
    str | None, typer.Option("--to", help="Last stage: what neither it nor a stage before it needs is left out.")
]
Except = Annotated[
    list[str] | None,
    typer.Option("--except", help="Leave this stage out, and those that need it; may be repeated."),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at", help="Time the run is for, such as 2026-01-31 or 2026-01-31T02:00:00Z (UTC); now if left out."
    ),
]


def show(
    pipeline: Pipeline,
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="Put in what it takes from other files, with where each value comes from."),
    ] = False,
) -> None:
    """Print the file of a pipeline, also of one that is wrong."""
    from pipelines.language.load import pipeline_file, read
    from pipelines.language.problems import PipelineError

    document = read(pipeline_file(pipeline))
    if not resolved:
        typer.echo("\n".join(document.lines), nl=False)
        return
    if document.broken or not isinstance(document.value, dict):
        raise PipelineError(document.problems())
    from pipelines.show.resolved import resolved as text

    typer.echo(text(document), nl=False)


def plan(
    pipeline: Pipeline,
    param: Params = None,
    from_: From = None,
    only: Only = None,
    to: To = None,
    except_: Except = None,
    at: At = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a run would do now: each stage, whether the cache has it, and why or why not."""
    import json

    from pipelines.show import render
    from pipelines.show.terminal import show as shown
    from pipelines.show.tuned import tuned_lines

    use(profile)
    from pipelines.language.plan import Selection

    found, left = _predicted(pipeline, param, Selection.of(from_, only, to, except_ or []), at)
    if as_json:
        typer.echo(json.dumps(render.as_json(found), indent=2, ensure_ascii=False))
        return
    shown(render.table(found))
    for line in tuned_lines(found):
        typer.echo(line)
    typer.echo(render.summary(found))
    if left:
        typer.echo(f"{left}.")


def graph(
    pipeline: Pipeline,
    form: Annotated[Literal["text", "mermaid"], typer.Option("--format", "-f", help="How to draw it.")] = "text",
    cache: Annotated[bool, typer.Option("--cache", help="Mark what a run would take from the cache now.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with the stages level by level to this file.")
    ] = None,
    of_run: Annotated[
        str | None,
        typer.Option("--run", help="With --html: mark what this run did; the day it is for, its id or a part of that."),
    ] = None,
    profile: Profile = None,
) -> None:
    """Draw a pipeline: which stage reads what from which."""
    from pipelines.language.check import load_plan
    from pipelines.language.load import pipeline_file
    from pipelines.language.plan import ALL
    from pipelines.language.profile import active_profile
    from pipelines.show import render

    if of_run and (html is None or cache):
        raise BadInputError("--run marks what was, so it goes with --html and without --cache")
    if cache or of_run:
        use(profile)
    place = active_profile(profile)
    plain = load_plan(pipeline_file(pipeline), place)
    drawn = _predicted(pipeline, None, ALL, None)[0] if cache else plain
    if html is not None:
        from pipelines.show.pages.graph_page import write_graph

        write_graph(html, drawn, of_run)
        typer.echo(f"{drawn.name}: drawn in {html}")
        return
    typer.echo(render.mermaid(drawn) if form == "mermaid" else render.text_graph(drawn), nl=False)


def run(
    pipeline: Pipeline,
    param: Params = None,
    from_: From = None,
    only: Only = None,
    to: To = None,
    except_: Except = None,
    at: At = None,
    profile: Profile = None,
    notify: Annotated[
        bool, typer.Option("--notify", help="Tell those whom the pipeline names under notify:, as a scheduler does.")
    ] = False,
    approve: Annotated[
        str | None,
        typer.Option("--approve", metavar="NAME[:NOTE]", help="What a stage that asks people is told: yes, says NAME."),
    ] = None,
    refuse: Annotated[str | None, typer.Option("--refuse", metavar="NAME[:NOTE]", help="The same: no.")] = None,
) -> None:
    """Run a pipeline's DAG in this process and end with a table of what it produced."""
    from rich.console import Console

    from components.platform.settings import Settings, quiet_engines
    from pipelines.language.check import load_plan
    from pipelines.language.load import pipeline_file
    from pipelines.language.params import parse_moment, parse_params
    from pipelines.language.plan import Selection
    from pipelines.language.profile import active_profile
    from pipelines.record.runs import read_run
    from pipelines.run.asking import said_by
    from pipelines.run.run import run_pipeline
    from pipelines.show.pages.report import write_report
    from pipelines.show.summary import print_summary

    quiet_engines()
    use(profile)
    settings = Settings.from_environment()
    params = parse_params(load_plan(pipeline_file(pipeline), active_profile()).spec, param or [])
    moment = parse_moment(at) if at else None
    selection = Selection.of(from_, only, to, except_ or [])
    said = said_by(approve, refuse)
    outcome = run_pipeline(pipeline, params, settings, selection=selection, moment=moment, notify=notify, said=said)
    recorded = read_run(outcome.folder)
    page = write_report(recorded, outcome.plan, settings) if recorded else None
    print_summary(outcome, settings, Console(highlight=False), page)
    raise typer.Exit(outcome.exit_code)


def _predicted(pipeline: str, param: list[str] | None, selection: Selection, at: str | None) -> tuple[Plan, str]:
    """Return the plan of a run, and in a sentence what it leaves out."""
    from pipelines.language.check import load_plan
    from pipelines.language.load import pipeline_file
    from pipelines.language.params import parse_moment, parse_params
    from pipelines.language.plan import due, left_out, select, skips
    from pipelines.language.profile import active_profile
    from pipelines.run.predict import predict

    checked = load_plan(pipeline_file(pipeline), active_profile())
    params: dict[str, Any] = parse_params(checked.spec, param or [])
    moment = parse_moment(at) if at else datetime.now(UTC)
    part = select(checked, selection)
    left = "; ".join(filter(None, (left_out(checked, selection), skips(part, params))))
    return predict(due(part, params), params, moment), left
