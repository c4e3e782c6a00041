"""Which command writes the references of components and of recipes? `reference`."""

from __future__ import annotations

from typing import Annotated

import typer

from components.platform.errors import BadInputError


def reference(
    write: Annotated[bool, typer.Option("--write", help="Write docs/components.md and docs/recipes.md.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail unless those files are what would be written.")] = False,
) -> None:
    """Print the references of components and recipes as Markdown, generated from their configs and arguments."""
    from pipelines.show.reference import components_page, recipes_page

    for part in (components_page, recipes_page):
        if check and (not part.PAGE.exists() or part.PAGE.read_text(encoding="utf-8") != part.page()):
            raise BadInputError(f"{part.PAGE.name} is not what the code says: run `rankmill reference --write`")
        if write:
            part.PAGE.write_text(part.page(), encoding="utf-8")
        if not (write or check):
            typer.echo(part.page(), nl=False)
