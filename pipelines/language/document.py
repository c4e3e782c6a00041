"""Where does each value of a pipeline stand, when several files say it together? One file, and what it takes.

A value keeps its place through every merge, so a mistake is told in the file and line that hold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from components.platform.errors import BadInputError, MissingError
from components.platform.settings import ROOT
from features.ground import yaml_text
from features.ground.yaml_text import KeyPath, Span, Words, YamlText
from pipelines.language.problems import Finding, PipelineError, Problem

LARGEST_FILE = 1 << 20
"""Bytes; a pipeline file is written by people."""


@dataclass(eq=False)
class Document(YamlText):
    """A parsed file, with what it takes from others put into `value`."""

    path: Path = field(kw_only=True)
    parents: list[Document] = field(default_factory=list)
    """Files that it takes keys from, the nearest first: those it `extends`, then its folder's defaults."""
    shared: dict[str, Document] = field(default_factory=dict)
    """By stage the file that it takes config `from`."""
    homes: dict[KeyPath, tuple[Document, KeyPath]] = field(default_factory=dict)
    """Where a value that another file gave stands; it holds for everything below the value that has no entry."""

    made: dict[str, str] = field(default_factory=dict)
    """By stage that a matrix made the one that is written."""

    named: dict[KeyPath, tuple[Document, KeyPath]] = field(default_factory=dict)
    """Where a key stands, when its value is taken from another place than the key."""

    @property
    def broken(self) -> bool:
        """Whether something was wrong already while reading."""
        return any(one.mistakes for one in self._read())

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was read, this one first, each once."""
        return tuple(dict.fromkeys(one.path for one in self._read()))

    def problems(self, findings: Iterable[Finding] = ()) -> list[Problem]:
        """Return what was wrong while reading, and findings at their places, but those that reading put in doubt."""
        found = {one.problem(mistake.span, mistake.message) for one in self._read() for mistake in one.mistakes}
        for finding in findings:
            home, where = self.home(finding.where)
            if finding.at == "key":
                home, where = self.named.get(finding.where, (home, where))
            if self._doubts(finding.where) or home._doubts(where):
                continue
            taken = f" (taken by {self.path.name})" if home in self.parents else ""
            found.add(home.problem(home.span(where, key=finding.at == "key"), finding.message + taken))
        return sorted(found)

    def home(self, where: KeyPath) -> tuple[Document, KeyPath]:
        """Return the file in which a value stands, and its key path there."""
        for end in range(len(where), -1, -1):
            if (found := self.homes.get(where[:end])) is not None:
                return found[0], (*found[1], *where[end:])
        return self, where

    def places(self, where: KeyPath) -> list[tuple[Path, int]]:
        """Return file and line of every place that says something about a block, the nearest first."""
        homes = [self.home(where), *(home for at, home in self.homes.items() if at[: len(where)] == where)]
        own = {home for home, _ in homes}
        if where[:1] == ("stages",) and where[1] in self.made:
            where = ("stages", self.made[str(where[1])], *where[2:])
        return [(one.path, one.span(where, key=True).line) for one in [self, *self.parents] if one in own]

    def problem(self, span: Span, message: str) -> Problem:
        """Return a mistake at a place of this file."""
        at = self.inside(span)
        line = self.lines[at.line - 1]
        return Problem(shown(self.path), at.line, at.column, message, "" if self._secret(at.line) else line, at.width)

    def _secret(self, number: int) -> bool:
        """Return whether a line may hold a secret by mistake: a URL where people are told, often a key in itself."""
        above = (line.lstrip("\"'") for line in reversed(self.lines[:number]) if line.strip() and line[0] not in " #")
        return "://" in self.lines[number - 1] and next(above, "").startswith("notify")

    def _doubts(self, where: KeyPath) -> bool:
        return any(where[: len(doubt)] == doubt for doubt in self.doubtful)

    def _read(self) -> list[Document]:
        return [self, *self.parents, *self.shared.values()]


def shown(path: Path) -> str:
    """Return a path as errors show it: relative to the application's root where it lies below it."""
    absolute = path.absolute()
    return (absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else path).as_posix()


def bytes_of(path: Path, what: str) -> bytes:
    """Return the bytes of a file, cut behind what a pipeline file may be.

    Raises:
        MissingError: there is no such file.
        BadInputError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise MissingError(f"there is no {what} {shown(path)}: write it or name another") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"{what} {shown(path)} cannot be read ({reason}): fix the file") from None


def document_of(data: bytes, path: Path, words: Words) -> Document:
    """Parse the bytes of one file; what is wrong with them stands in `Document.problems`.

    Raises:
        PipelineError: the text is larger than a pipeline file may be.
    """
    if len(data) > LARGEST_FILE:
        raise PipelineError(
            [Problem(shown(path), 1, 1, "the file is larger than 1 MiB: a pipeline file holds no data")]
        )
    return Document(**vars(yaml_text.parse(data, words)), path=path)
