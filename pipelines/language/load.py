"""Which pipeline file is meant, what does it hold, and where does each key and value stand?

Files lie in this tree, and in the folder of your own that ``RANKMILL_PIPELINES`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.platform.errors import BadInputError, MissingError, did_you_mean
from components.platform.settings import ROOT
from features.ground import yaml_text
from features.ground.yaml_text import KeyPath, Mistake, Span, Words, YamlText, quoted
from pipelines.language.problems import Finding, PipelineError, Problem

PIPELINES = ROOT / "pipelines"
"""Folder of the pipeline files of this tree."""
OWN = "RANKMILL_PIPELINES"
"""Environment variable with the absolute path of a folder of your own pipelines."""
LARGEST_FILE = 1 << 20
"""Bytes; a pipeline file is written by people."""


def _advice(line: str) -> str | None:
    bare = "${" in line and "'" not in line and '"' not in line
    return "${params.NAME} must be in quotes inside { } and [ ]" if bare else None


_WORDS = Words("pipeline", advice=_advice)
_SHARED_WORDS = Words("block of config", advice=_advice)


@dataclass
class Document(YamlText):
    """A parsed pipeline file."""

    path: Path = field(kw_only=True)
    shared: dict[str, Document] = field(default_factory=dict)
    """By stage the file that it takes config `from`."""

    @property
    def broken(self) -> bool:
        """Whether something was wrong already while reading."""
        return bool(self.mistakes or any(other.mistakes for other in self.shared.values()))

    def problems(self, findings: Iterable[Finding] = ()) -> list[Problem]:
        """Return what was wrong while reading, and findings at their places, but those that reading put in doubt."""
        found = {problem for other in self.shared.values() for problem in other.problems()}
        found |= {self._problem(mistake.span, mistake.message) for mistake in self.mistakes}
        for finding in findings:
            home, where = self._home(finding.where)
            if not (self._doubts(finding.where) or home._doubts(where)):
                found.add(home._problem(home.span(where, key=finding.at == "key"), finding.message))
        return sorted(found)

    def _doubts(self, where: KeyPath) -> bool:
        return any(where[: len(doubt)] == doubt for doubt in self.doubtful)

    def _home(self, where: KeyPath) -> tuple[Document, KeyPath]:
        """Return the file in which a value stands, and its key path there."""
        if where[:1] == ("stages",) and where[2:3] == ("with",) and where[:4] not in self.keys:
            other = self.shared.get(str(where[1]))
            if other is not None and where[3:4] in other.keys:
                return other, where[3:]
        return self, where

    def _problem(self, span: Span, message: str) -> Problem:
        at = self.inside(span)
        return Problem(shown(self.path), at.line, at.column, message, self.lines[at.line - 1], at.width)


def shown(path: Path) -> str:
    """Return a path as errors show it: relative to the application's root where it lies below it."""
    absolute = path.absolute()
    return (absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else path).as_posix()


def read(path: Path) -> Document:
    """Read and parse a pipeline file, with the files that its stages take config `from`.

    Raises:
        MissingError: there is no such file.
        BadInputError: it cannot be read.
        PipelineError: it is larger than a pipeline file may be.
    """
    return parse(_bytes(path, "pipeline file"), path)


def _bytes(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise MissingError(f"there is no {what} {shown(path)}: write it or name another") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"{what} {shown(path)} cannot be read ({reason}): fix the file") from None


def parse(data: bytes, path: Path) -> Document:
    """Parse the bytes of a pipeline file; what is wrong with them stands in `Document.problems`.

    Raises:
        PipelineError: the text is larger than a pipeline file may be.
    """
    document = _parsed(data, path, _WORDS)
    if not document.values and not document.mistakes:
        document.mistakes.append(Mistake(Span(1, 1), "the file is empty: a pipeline starts with its name"))
    stages = document.value.get("stages") if isinstance(document.value, dict) else None
    for name, stage in stages.items() if isinstance(stages, dict) else ():
        if isinstance(stage, dict) and isinstance(stage.get("from"), str):
            _share(document, name, stage)
    return document


def _parsed(data: bytes, path: Path, words: Words) -> Document:
    if len(data) > LARGEST_FILE:
        raise PipelineError(
            [Problem(shown(path), 1, 1, "the file is larger than 1 MiB: a pipeline file holds no data")]
        )
    return Document(**vars(yaml_text.parse(data, words)), path=path)


def _share(document: Document, name: str, stage: dict[str, Any]) -> None:
    """Put the keys of the file that a stage names into its `with:`, below those that stand there."""
    given = Path(stage["from"])
    wrong = ""
    if given.is_absolute() or ".." in given.parts or given.suffix != ".yaml":
        wrong = f"from must be a .yaml file beside the pipeline or below its folder, not {quoted(given)}"
    else:
        try:
            data = _bytes(document.path.parent / given, "file")
        except (BadInputError, MissingError) as error:
            wrong = str(error)
    if wrong:
        document.mistakes.append(Mistake(document.span(("stages", name, "from")), wrong))
        document.doubtful.append(("stages", name, "with"))
        return
    other = document.shared[name] = _parsed(data, document.path.parent / given, _SHARED_WORDS)
    if not isinstance(other.value, dict) and not other.mistakes:
        other.mistakes.append(Mistake(Span(1, 1), "the file must hold keys of a stage's with: write them"))
    if other.mistakes:
        document.doubtful.append(("stages", name, "with"))
    own = stage.setdefault("with", {})
    if isinstance(own, dict) and isinstance(other.value, dict):
        stage["with"] = other.value | own


def names_file(text: str) -> bool:
    """Return whether a word of the command line is a YAML file rather than the name of one."""
    return text.endswith((".yaml", ".yml")) or "/" in text


def own_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder of your own pipelines, or None when there is none.

    Raises:
        BadInputError: ``RANKMILL_PIPELINES`` is no absolute path of a folder.
    """
    given = (os.environ if environ is None else environ).get(OWN)
    if not given:
        return None
    if not Path(given).is_absolute() or not Path(given).is_dir():
        raise BadInputError(f"{OWN} is {given!r}: set it to the absolute path of a folder with pipeline files")
    return Path(given)


def hidden_files() -> tuple[Path, ...]:
    """Return the files of your own folder that no name leads to: one of this tree has it, or it ends with ``.yml``.

    Raises:
        BadInputError: see `own_folder`.
    """
    own = own_folder()
    if own is None:
        return ()
    taken = [path for path in own.glob("*.yaml") if (PIPELINES / path.name).exists()]
    return tuple(sorted([*taken, *own.glob("*.yml")]))


def pipeline_files(below: str = "") -> dict[str, Path]:
    """Return every pipeline file, or those of a folder below, by name; one of this tree hides an own one of its name.

    Raises:
        BadInputError: see `own_folder`.
    """
    own = own_folder()
    folders = [*([own] if own else []), PIPELINES]
    return {path.stem: path for folder in folders for path in sorted((folder / below).glob("*.yaml"))}


def pipeline_names() -> tuple[str, ...]:
    """Return the names of all pipeline files, those of ``RANKMILL_PIPELINES`` included, sorted."""
    return tuple(sorted(pipeline_files()))


def pipeline_path(name: str) -> Path:
    """Return the file of a pipeline.

    Raises:
        MissingError: there is no pipeline of this name; the message holds the nearest one.
    """
    files = pipeline_files()
    if name not in files:
        if other := next((path for path in hidden_files() if path.stem == name), None):
            raise MissingError(f"no pipeline {name!r}: {other} is no .yaml file, rename it to {name}.yaml")
        raise MissingError(f"no pipeline {name!r}{did_you_mean(name, files)}")
    return files[name]


def pipeline_file(name: str) -> Path:
    """Return the file of a pipeline given by name or as a YAML file.

    Raises:
        MissingError: there is no pipeline of this name.
        BadInputError: there are two; the scheduler goes on with the one of this tree.
    """
    if names_file(name):
        return Path(name)
    path = pipeline_path(name)
    if other := next((file for file in hidden_files() if file.name == path.name), None):
        raise BadInputError(
            f"there are two pipelines {name!r}, {other} and the shipped {path}: rename yours, or give one as a file"
        )
    return path
