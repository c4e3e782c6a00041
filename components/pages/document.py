"""How does a page come to be? From a Jinja file beside the module that shows something, inside one document.

The document holds the one style sheet. A page is one file without scripts: what it shows are texts, tables and pictures
inside it, and no text of a report, a file or a plugin becomes markup.
"""

from __future__ import annotations

import base64
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from components.platform.sources import TEMPLATE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from jinja2 import Environment

    from registry.evaluation import Interval

FEW = 10
"""Fewer rows than this of the rarer label make an interval that is shown in grey: one positive more or less moves the
AUC by more than a tenth, and a bootstrap that redraws so few rows gives intervals that are too narrow."""


class Counted(Protocol):
    """Rows with a binary label."""

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def positives(self) -> int:
        """How many with the label."""


def render(module: str, view: DataclassInstance) -> str:
    """Return a page as HTML.

    Args:
        module: file of the module that shows something; its template lies beside it.
        view: what the template sees: each field by its name, and nothing else.
    """
    path = Path(module).with_suffix(TEMPLATE)
    return (
        _environment(path.parent)
        .get_template(path.name)
        .render({field.name: getattr(view, field.name) for field in fields(view)})
    )


def picture(path: Path) -> str:
    """Return a PNG file as the `src` of an image, so that the page needs no other file."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def is_few(counted: Counted) -> bool:
    """Return whether there are too few rows of one label for an interval that can be believed."""
    return min(counted.positives, counted.rows - counted.positives) < FEW


@cache
def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader([folder, Path(__file__).parent]),
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "number": _number,
        "signed": lambda value: "–" if value is None else f"{value:+.4f}",
        "bounds": _bounds,
        "minute": lambda moment: f"{moment:%Y-%m-%d %H:%M}",
    }
    environment.tests["few"] = is_few
    environment.globals["few"] = FEW
    return environment


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _bounds(interval: Interval, digits: int = 4) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"{interval.low:.{digits}f} … {interval.high:.{digits}f}"
