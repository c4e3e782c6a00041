"""What does a pipeline file hold, and where does each key and value stand? Problems come with their lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from components.platform.errors import BadInputError, MissingError
from components.platform.settings import ROOT
from features.ground import yaml_text
from features.ground.yaml_text import Mistake, Words, YamlText
from pipelines.language.problems import PipelineError, Problem, Span

LARGEST_FILE = 1 << 20
"""Bytes; a pipeline file is written by people."""


def _advice(line: str) -> str | None:
    bare = "${" in line and "'" not in line and '"' not in line
    return "${params.NAME} must be in quotes inside { } and [ ]" if bare else None


_WORDS = Words("pipeline", advice=_advice)


@dataclass
class Document(YamlText):
    """A parsed pipeline file.

    Attributes:
        path: the file.
    """

    path: Path = field(kw_only=True)

    @property
    def problems(self) -> list[Problem]:
        """What was wrong already while reading."""
        return [self.problem(mistake.span, mistake.message) for mistake in self.mistakes]

    def problem(self, span: Span, message: str) -> Problem:
        """Return a problem at `span`, with its line."""
        at = self.inside(span)
        return Problem(shown(self.path), at.line, at.column, message, self.lines[at.line - 1], at.width)


def shown(path: Path) -> str:
    """Return a path as errors show it: relative to the application's root where it lies below it."""
    absolute = path.absolute()
    return (absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else path).as_posix()


def read(path: Path) -> Document:
    """Read and parse a pipeline file.

    Raises:
        MissingError: there is no such file.
        BadInputError: it cannot be read.
        PipelineError: it is larger than a pipeline file may be.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise MissingError(f"there is no pipeline file {shown(path)}: write it or name another") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"pipeline file {shown(path)} cannot be read ({reason}): fix the file") from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Document:
    """Parse the bytes of a pipeline file; what is wrong with them stands in `Document.problems`.

    Raises:
        PipelineError: the text is larger than a pipeline file may be.
    """
    if len(data) > LARGEST_FILE:
        raise PipelineError(
            [Problem(shown(path), 1, 1, "the file is larger than 1 MiB: a pipeline file holds no data")]
        )
    found = yaml_text.parse(data, _WORDS)
    if not found.values and not found.mistakes:
        found.mistakes.append(Mistake(Span(1, 1), "the file is empty: a pipeline starts with its name"))
    return Document(**vars(found), path=path)
