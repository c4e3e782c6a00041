"""Which command starts something new? `new` writes a small example that works, with its test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.scaffold.write import NEXT, Kind, write_example


def new(
    kind: Annotated[Kind, typer.Argument(help="What to write.", metavar="KIND")],
    name: Annotated[str, typer.Argument(help="What it will be called, such as shop_daily.", metavar="NAME")],
    into: Annotated[Path, typer.Option("--into", help="Folder to write into; made when it is not there.")] = Path(),
    model: Annotated[str, typer.Option(help="Registered model that a service answers with; of a service only.")] = "",
) -> None:
    """Write a small working example of a pipeline, component, ranker or feature view, with its test, or of a service.

    No file that exists is ever changed.
    """
    for path in write_example(kind, name, into, model):
        typer.echo(f"wrote {path}")
        if kind == "serving":
            from pipelines.language.serving import load_serving

            load_serving(path)
            typer.echo(f"service {name}: no problems")
    typer.echo("\nGo on with:" if into == Path() else f"\nGo on in {into} with:")
    for command in NEXT[kind]:
        typer.echo(f"  {command.format(name=name, model=model)}")
