"""Which recipes are there, and what does each take? One page, generated from their dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_args

from components.platform.settings import ROOT
from features.definitions import recipe
from features.ground.field_docs import field_docs
from features.ground.markdown import code, prose, table, text

PAGE = ROOT / "docs" / "recipes.md"
"""Where the page lies."""


def page() -> str:
    """Return the page about the recipes and their parts as Markdown."""
    recipes = get_args(recipe.Recipe)
    made: list[Any] = [
        kind for kind in vars(recipe).values() if is_dataclass(kind) and inspect.getmodule(kind) is recipe
    ]
    return "\n".join(
        [
            "# Recipes",
            "",
            "What the table behind a source may be computed by, generated from `features/definitions/recipe.py` by",
            "`rankmill reference --write`. How they are used: [define a feature](define-a-feature.md).",
            "",
            table(
                ["", "what it gives"],
                [(f"[`{kind.__name__}`](#{kind.__name__.lower()})", _first(kind)) for kind in made],
            ),
            *(line for kind in sorted(made, key=lambda kind: kind not in recipes) for line in recipe_section(kind)),
            "",
        ]
    )


def recipe_section(kind: Any) -> Iterator[str]:
    """Yield the lines about one recipe, or a part of one."""
    yield from ("", f"## {kind.__name__}", "")
    for paragraph in _paragraphs(kind):
        yield from (paragraph, "")
    docs = field_docs(kind)
    rows = [
        (code(field.name), text(str(field.type)), _default(field), _prose(docs.get(field.name, "")))
        for field in fields(kind)
    ]
    yield table(["argument", "takes", "default", "meaning"], rows)


def _default(field: Field[Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    return text(repr(field.default if field.default_factory is MISSING else field.default_factory()))


def _paragraphs(kind: Any) -> list[str]:
    return [_prose(" ".join(part.split())) for part in (inspect.getdoc(kind) or "").split("\n\n")]


def _prose(said: str) -> str:
    return prose(said.replace("``", "`"))  # two backticks are one in Markdown


def _first(kind: Any) -> str:
    return _paragraphs(kind)[0]
