"""Where do pipeline files lie? In this tree, and in the folder of your own that ``RANKMILL_PIPELINES`` names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from components.platform.errors import BadInputError
from components.platform.settings import ROOT

PIPELINES = ROOT / "pipelines"
"""Folder of the pipeline files of this tree."""
OWN = "RANKMILL_PIPELINES"
"""Environment variable with the absolute path of a folder of your own pipelines."""


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


def pipeline_files() -> dict[str, Path]:
    """Return every pipeline file by name; one of this tree hides an own one of the same name.

    Raises:
        BadInputError: see `own_folder`.
    """
    own = own_folder()
    folders = [*([own] if own else []), PIPELINES]
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
