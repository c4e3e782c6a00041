"""How do all versions of one model stand, and what has happened to it? A page of registry and ledger."""

from __future__ import annotations

from dataclasses import dataclass

from components.pages.document import render
from components.pages.links import Links
from pipelines.language.hiding import hidden
from pipelines.show.pages.standing import ModelStanding


@dataclass(frozen=True)
class _View:
    links: Links
    model: ModelStanding


def model_page(model: ModelStanding, links: Links) -> str:
    """Return the page as HTML without scripts or outside resources."""
    return hidden(render(__file__, _View(links, model)))
