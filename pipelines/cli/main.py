"""What can I ask `rankmill`? Check, plan and draw pipelines, look components up; run and operate are added below."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.platform.errors import BadInputError, MissingError, RankmillError
from components.platform.settings import quiet_engines
from pipelines.cli import (
    compare,
    cost,
    explain,
    models,
    new,
    operate,
    people,
    plan,
    profile,
    reference,
    retrieve,
    runs,
    score,
    trace,
)
from pipelines.cli import serve as serving
from pipelines.cli.profile import Profile, use
from pipelines.show.terminal import folding, show

if TYPE_CHECKING:
    from components.platform.contract import ComponentSpec

quiet_engines()

app = typer.Typer(
    name="rankmill",
    help="Impression logs in, a promoted and servable ranker out, every day, from one YAML file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
component_app = typer.Typer(help="Run one component by itself.", no_args_is_help=True)
app.add_typer(component_app, name="component")
_FILES_ONLY = {"validate", "graph", "show", "components", "schema", "stubs", "profiles", "new"}
"""Commands that look at files only: they need no value that a profile fetches."""


@app.callback()
def root(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Option("--profile", envvar="RANKMILL_PROFILE", help="Place to work in: a profile by name or file."),
    ] = None,
) -> None:
    """Impression logs in, a promoted and servable ranker out, every day, from one YAML file."""
    if profile and context.invoked_subcommand not in _FILES_ONLY:
        use(profile)


def main() -> None:
    """Run the command line; an expected error is one message on stderr and its own exit status."""
    try:
        app()
    except RankmillError as error:
        if os.environ.get("RANKMILL_TRACEBACK") == "1":
            traceback.print_exc()
        else:
            typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)  # whoever read the output has gone
    except Exception as error:
        # What a user's file or disk does to a library that reads it; anything else is a fault of ours and is shown.
        engine = type(error).__module__.partition(".")[0] in ("pyarrow", "polars")
        if os.environ.get("RANKMILL_TRACEBACK") == "1" or not (engine or isinstance(error, OSError)):
            raise
        said = " ".join(str(error).split())
        typer.echo(f"{said or type(error).__name__}: check the file that was named, its rights and the disk", err=True)
        sys.exit(2)


@app.command()
def validate(
    pipelines: Annotated[
        list[str] | None, typer.Argument(help="Names or files; all pipelines when none is given.", metavar="PIPELINE")
    ] = None,
    profile: Profile = None,
) -> None:
    """Check pipeline files and report every problem of every file; exit status 2 when there is one.

    With a profile also whether it has the GPUs that they ask for; without a pipeline also every profile and service.
    """
    from pipelines.language.check import load_plan
    from pipelines.language.load import hidden_files, pipeline_file, pipeline_files
    from pipelines.language.notify import unsendable
    from pipelines.language.profile import active_profile, load_profile, profile_files
    from pipelines.language.schedule import without_news
    from pipelines.language.serving import load_serving, serving_files

    failed: list[RankmillError] = []
    names = pipelines or [str(path) for _, path in sorted(pipeline_files().items())] + [*map(str, hidden_files())]
    place = active_profile(profile)
    for name in names:
        try:
            plan = load_plan(pipeline_file(name), place)
        except (BadInputError, MissingError) as error:
            failed.append(error)
            typer.echo(str(error), err=True)
        else:
            typer.echo(f"{plan.name}: {len(plan.stages)} stages, no problems")
            if remark := without_news(plan.spec):
                typer.echo(f"{plan.name}: warning: {remark}")
            for sentence in unsendable(plan.spec.notify):
                typer.echo(f"{plan.name}: warning: {sentence}")
    if failed:
        typer.echo(f"{len(failed)} of {len(names)} pipelines have problems", err=True)
    if not pipelines:
        failed += _wrong("profile", profile_files(), load_profile)
        failed += _wrong("service", serving_files(), load_serving)
    if failed:
        raise typer.Exit(2)


@app.command()
def components(
    name: Annotated[str | None, typer.Argument(help="Show this one in detail.", metavar="COMPONENT")] = None,
) -> None:
    """List the components that a pipeline can use, or show one: config, inputs, outputs, a YAML example."""
    from components.platform.catalog import catalog, component
    from pipelines.show.reference.describe import reads_and_makes

    if name is not None:
        _describe(component(name))
        return
    shown = folding("component", "reads", "makes", "what it does")
    for spec in catalog().values():
        shown.add_row(spec.name, *reads_and_makes(spec), f"{spec.summary}{_origin(spec)}")
    show(shown)
    for _, fault in sorted(catalog().refused.items()):
        typer.echo(fault, err=True)


@component_app.command("run")
def run_component(
    name: Annotated[str, typer.Argument(help="Name of the component.", metavar="COMPONENT")],
    request: Annotated[Path, typer.Argument(help="JSON with config, inputs and window.", metavar="SPEC.json")],
) -> None:
    """Run one component by itself and print its result as JSON.

    SPEC.json holds `config`, `inputs` (each {"kind", "uri", "digest"}) and `window` ({"start", "end"}).
    """
    from components.platform.catalog import component
    from components.platform.execute import execute
    from pipelines.run.task import read_request

    spec = component(name)
    typer.echo(execute(read_request(spec.name, request)).model_dump_json(indent=2))


@app.command()
def schema(
    write: Annotated[bool, typer.Option("--write", help="Write the schemas in pipelines/schema/.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail unless that file is what would be written.")] = False,
) -> None:
    """Print the JSON Schema of pipeline files, from which editors complete."""
    from pipelines.show.reference.schema import SCHEMA_FILE, schema_texts

    texts = schema_texts()
    for file, text in texts.items():
        if check and (not file.exists() or file.read_text(encoding="utf-8") != text):
            raise BadInputError(f"{file.name} is not what the models say: run `rankmill schema --write`")
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if not (write or check):
        typer.echo(texts[SCHEMA_FILE], nl=False)


def _wrong(kind: str, files: Mapping[str, Path], load: Callable[[Path], object]) -> list[RankmillError]:
    failed: list[RankmillError] = []
    for name, path in sorted(files.items()):
        try:
            load(path)
        except BadInputError as error:
            failed.append(error)
            typer.echo(str(error), err=True)
        else:
            typer.echo(f"{kind} {name}: no problems")
    return failed


def _origin(spec: ComponentSpec) -> str:
    return f" (package {spec.package})" if spec.package else ""


def _describe(spec: ComponentSpec) -> None:
    from rich.markup import escape

    from pipelines.show.reference.describe import config_rows, sample_yaml

    typer.echo(f"{spec.name} (version {spec.version})\n{spec.summary}{_origin(spec)}\n")
    for title, kinds in (("input", spec.input_types), ("output", spec.output_types)):
        for name, kind in kinds.items():
            optional = title == "input" and name not in spec.needed_inputs
            many = title == "input" and name in spec.many_inputs
            typer.echo(
                f"{title} {name}{', if any' if optional else ', many' if many else ''}: {kind.kind}. {kind.describe()}"
            )
    shown = folding("with:", "takes", "default", "meaning")
    for row in config_rows(spec):
        default = "[bold]required[/]" if row.default is None else escape(row.default)
        shown.add_row(escape(row.key), escape(row.type), default, escape(row.description))
    typer.echo("")
    if shown.row_count:
        show(shown)
        typer.echo("")
    typer.echo(sample_yaml(spec), nl=False)


for _command in (
    new.new, plan.show, plan.plan, plan.graph, plan.run, operate.ui, operate.doctor, operate.stubs, runs.runs, runs.gc,
    cost.cost, profile.profiles, compare.compare, models.models, models.promote, models.rollback, models.history,
    people.approve, people.refuse, people.hold, people.lift, score.score, explain.explain, retrieve.retrieve,
    serving.serve, serving.ask, serving.serving, trace.trace, reference.reference,
):  # fmt: skip
    app.command()(_command)
