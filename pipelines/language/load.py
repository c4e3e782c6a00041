"""Which pipeline file is meant, what does it hold, and where does each key and value stand?

Files lie in this tree, and in the folder of your own that ``RANKMILL_PIPELINES`` names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from components.platform.errors import BadInputError, MissingError, did_you_mean
from components.platform.settings import ROOT
from features.ground.yaml_text import Mistake, Span
from pipelines.language.document import Document, bytes_of, document_of
from pipelines.language.extend import DEFAULTS, WORDS, take
from pipelines.language.matrix import expand

PIPELINES = ROOT / "pipelines"
"""Folder of the pipeline files of this tree."""
OWN = "RANKMILL_PIPELINES"
"""Environment variable with the absolute path of a folder of your own pipelines."""


def read(path: Path, *, alone: bool = False) -> Document:
    """Read and parse a pipeline file, with what it takes from others; `alone` for a file of another kind.

    Raises:
        MissingError: there is no such file.
        BadInputError: it cannot be read.
        PipelineError: it is larger than a pipeline file may be.
    """
    return parse(bytes_of(path, "pipeline file"), path, alone=alone)


def parse(data: bytes, path: Path, *, alone: bool = False) -> Document:
    """Parse the bytes of a pipeline file; what is wrong with them stands in `Document.problems`.

    Raises:
        PipelineError: the text is larger than a pipeline file may be, or that of a file it takes keys from.
    """
    document = document_of(data, path, WORDS)
    if not document.values and not document.mistakes:
        document.mistakes.append(Mistake(Span(1, 1), "the file is empty: a pipeline starts with its name"))
    if not alone:
        take(document)
        expand(document)
    return document


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
    taken = [path for path in pipelines_in(own).values() if (PIPELINES / path.name).exists()]
    return tuple(sorted([*taken, *own.glob("*.yml")]))


def pipeline_files(below: str = "") -> dict[str, Path]:
    """Return every pipeline file, or those of a folder below, by name; one of this tree hides an own one of its name.

    Raises:
        BadInputError: see `own_folder`.
    """
    own = own_folder()
    folders = [*([own] if own else []), PIPELINES]
    return {name: path for folder in folders for name, path in pipelines_in(folder / below).items()}


def pipelines_in(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by name, without what they share by its ``defaults.yaml``, sorted."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.name != DEFAULTS}


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
        BadInputError: it is a folder's ``defaults.yaml``; or there are two, and the scheduler goes on with the one of
            this tree.
    """
    if names_file(name):
        if Path(name).name == DEFAULTS:
            raise BadInputError(f"{name} is what the pipelines of its folder share: name one of them")
        return Path(name)
    path = pipeline_path(name)
    if other := next((file for file in hidden_files() if file.name == path.name), None):
        raise BadInputError(
            f"there are two pipelines {name!r}, {other} and the shipped {path}: rename yours, or give one as a file"
        )
    return path
