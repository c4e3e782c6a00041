"""Where do files of vectors lie, and what changes with their content?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.events_table import ANNOTATION
from components.platform.errors import MissingError
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.ground.files import sha256_file
from features.ground.remote_files import local_path, open_files

if TYPE_CHECKING:
    from components.ingest.ingest_vectors.config import Config, Outputs

_DATA = "data://"


def local_file(uri: str, data: Path, scratch: Path) -> Path:
    """Return a local file, or a copy of a remote one in `scratch`.

    Raises:
        MissingError: there is no such file.
        BadInputError: its driver is not installed, or it may not be read.
        RetryableError: its store does not answer.
    """
    path = _path(uri, data)
    if path is not None:
        if not path.is_file():
            raise MissingError(f"there is no file {path}: put the vectors there, or correct files or ids")
        return path
    system, place = open_files(uri, "files")
    scratch.mkdir(parents=True, exist_ok=True)
    copy = scratch / Path(place).name
    try:
        with system.open(place, "rb") as stream, copy.open("wb") as written:
            shutil.copyfileobj(stream, written)
    except FileNotFoundError:
        raise MissingError(f"there is no file {uri}: put the vectors there, or correct files or ids") from None
    return copy


def mark(uri: str, data: Path) -> str:
    """Return what changes with a file's content: the sha256 of a local one, the store's own mark of a remote one."""
    path = _path(uri, data)
    if path is not None:
        return sha256_file(path) if path.is_file() else "absent"
    system, place = open_files(uri, "files")
    return str(system.ukey(place))


def files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which file differs from what was read, or None."""
    read = open_store(settings).manifest(outputs.vectors).annotations
    for uri in _named(config):
        if read.get(ANNOTATION + uri) != mark(uri, settings.data):
            return f"{uri} has changed"
    return None


def marks(config: Config, data: Path) -> dict[str, str]:
    """Return the annotation of every file."""
    return {ANNOTATION + uri: mark(uri, data) for uri in _named(config)}


def _named(config: Config) -> Iterator[str]:
    yield config.files
    if config.ids is not None:
        yield config.ids


def _path(uri: str, data: Path) -> Path | None:
    if uri.startswith(_DATA):
        return data / uri.removeprefix(_DATA)
    local = local_path(uri)
    return None if local is None else Path(local)
