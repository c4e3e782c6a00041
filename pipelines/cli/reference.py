"""Which command writes the reference of components? `reference`."""

from __future__ import annotations

from typing import Annotated

import typer

from components.platform.errors import BadInputError


def reference(
    write: Annotated[bool, typer.Option("--write", help="Write docs/components.md.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail unless that file is what would be written.")] = False,
) -> None:
    """Print the reference of components as Markdown, generated from their configs."""
    from pipelines.show.reference.components_page import PAGE, page

    if check and (not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page()):
        raise BadInputError(f"{PAGE.name} is not what the configs say: run `rankmill reference --write`")
    if write:
        PAGE.write_text(page(), encoding="utf-8")
    if not (write or check):
        typer.echo(page(), nl=False)
