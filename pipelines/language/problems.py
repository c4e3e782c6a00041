"""How is a mistake in a pipeline file told? File, line, column, one sentence, the line and a caret under it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from components.platform.errors import BadInputError
from features.ground.yaml_text import KeyPath

MOST_SHOWN = 50
"""Problems that one error prints; a file with more is not helped by reading on."""
WIDEST_LINE = 110


@dataclass(frozen=True)
class Finding:
    """A mistake by key path, before it is placed in the file."""

    where: KeyPath
    """Path of the value, or of the nearest block that exists."""
    message: str
    at: Literal["value", "key"] = "value"
    """Whether the caret points at the value or at its key."""
    otherwise: KeyPath = ()
    """Path to point at where the stage of `where` stands in another file, as the training set of a comparison does."""


@dataclass(frozen=True, order=True)
class Problem:
    """A mistake at a place of a file."""

    path: str
    """The file as it is shown."""
    line: int
    column: int
    """From 1, in characters."""
    message: str
    source: str = field(default="", compare=False)
    """The line itself, without its end."""
    width: int = field(default=1, compare=False)
    """Characters the caret underlines."""

    def __str__(self) -> str:
        """Return `path:line:column: message`, the line, and a caret under the place."""
        head = f"{self.path}:{self.line}:{self.column}: {self.message}"
        if not self.source.strip():
            return head
        start = max(0, min(self.column - 1 - WIDEST_LINE // 2, len(self.source) - WIDEST_LINE))
        shown = self.source[start : start + WIDEST_LINE]
        before = "".join(_plain(char) for char in shown[: self.column - 1 - start])
        marked = "".join(_plain(char) for char in shown[self.column - 1 - start :][: self.width])
        line = "".join(_plain(char) for char in shown)
        return f"{head}\n    {line}\n    {' ' * _columns(before)}{'^' * max(1, _columns(marked))}"


class PipelineError(BadInputError):
    """A pipeline file is wrong; `problems` holds everything that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        """Return all problems below each other, at most `MOST_SHOWN` of them."""
        lines = [str(problem) for problem in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            lines.append(f"… and {len(self.problems) - MOST_SHOWN} more problems; mend these first")
        return "\n".join(lines)


def listed(words: Iterable[str]) -> str:
    """Return `a, b or c`."""
    items = list(words)
    return " or ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def _plain(char: str) -> str:
    """Replace what a terminal would not show as itself."""
    return char if char.isprintable() else " "


def _columns(text: str) -> int:
    """Return the columns that a terminal gives to `text`: two for wide East Asian characters, none for accents."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
