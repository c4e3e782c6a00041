"""Which files does a pattern name, what marks their content, and where can they be read?"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from components.ingest.events_table import ANNOTATION
from components.ingest.ingest_table.config import Config, Outputs
from components.ingest.ingest_table.place import Page, Table, bare, parts_of
from components.ingest.wheels import Wheel
from components.platform.errors import BadInputError, MissingError, RetryableError, did_you_mean
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.ground.files import sha256_file

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_DATA = "data://"
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Source:
    """One file."""

    name: str
    """Role and name below the pattern's fixed part, such as ``events/2026/day.csv``."""
    place: str
    """Local path, or path in its file system."""
    shown: str
    """What a reader of an error would open."""
    remote: Any = None
    """fsspec file system that holds it, or None."""
    sha256: str | None = None
    """What its content must be, when the source says so."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Columns that the pattern names in braces."""

    @property
    def is_text(self) -> bool:
        """Whether it is CSV rather than Parquet."""
        return not self.place.endswith(".parquet")

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns that stand in the path: `parts`, and those that Hive and Spark write, ``dt=2026-01-01/a.parquet``."""
        pairs = (folder.partition("=") for folder in PurePosixPath(self.place).parts[:-1])
        texts = {unquote(name): unquote(text) for name, sign, text in pairs if sign and name}
        return {name: None if text == _NULL_PARTITION else text for name, text in texts.items()} | dict(self.parts)

    def mark(self) -> str:
        """Return what changes with the content: the sha256 of a local file, the store's own mark of a remote one."""
        if self.sha256 is not None:
            return self.sha256
        return str(self.remote.ukey(self.place)) if self.remote is not None else sha256_file(Path(self.place))

    def local(self, folder: Path) -> Path:
        """Return a local copy of a remote file below `folder`, or the local file itself."""
        if self.remote is None:
            return Path(self.place)
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _reaching(self.shown):
            self.remote.get_file(self.place, str(path))
        return path


def sources(config: Config, data: Path) -> dict[str, tuple[Source, ...]]:
    """Return the files of each role: ``events``, and ``users`` and ``items`` where the config names them.

    Args:
        config: patterns.
        data: folder that ``data://`` stands for.

    Raises:
        MissingError: a pattern matches no file; those of a wheel need not be there yet.
        BadInputError: a file is neither CSV nor Parquet, or its URL cannot be opened.
        RetryableError: a remote store does not answer.
    """
    return {role: _matching(role, table, config.origin, data) for role, table in config.tables.items()}


def files_are_unchanged(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return which file differs from what was read, is new or is gone, or None."""
    annotations = open_store(settings).manifest(outputs.events).annotations
    read = {name.removeprefix(ANNOTATION): mark for name, mark in annotations.items() if name.startswith(ANNOTATION)}
    try:
        now = {source.name: source for found in sources(config, settings.data).values() for source in found}
    except MissingError as error:
        return str(error)
    for name in sorted({*read, *now}):
        if name not in now:
            return f"{name} is gone"
        if name not in read:
            return f"{now[name].shown} is new"
        if read[name] != now[name].mark():
            return f"{now[name].shown} has changed"
    return None


def _matching(role: str, table: Table, origin: Wheel | Page | None, data: Path) -> tuple[Source, ...]:
    pattern = table.files
    inside = None if origin is None else pattern.removeprefix(f"{_DATA}{origin.into}/")
    if isinstance(origin, Wheel) and inside is not None and inside != pattern:
        found = _of_wheel(role, inside, origin, data / origin.into)
        if not found:
            known = did_you_mean(inside, origin.files)
            raise BadInputError(f"the source holds no file that matches {pattern}{known}: correct the pattern")
    else:
        if pattern.startswith(_DATA):
            pattern = str(data / pattern.removeprefix(_DATA))
        found = _remote(role, pattern) if "://" in pattern else _local(role, pattern)
    if not found and isinstance(origin, Page) and inside != table.files:
        raise MissingError(
            f"no file matches {pattern}: download the data set from {origin.page} and put its files into "
            f"{data / origin.into}, or set RANKMILL_DATA"
        )
    if not found:
        raise MissingError(f"no file matches {pattern}: put {_said(role)} there, or correct the pattern")
    places = {source.place: source for source in found}
    for source in found:
        if plain := places.get(source.place.removesuffix(".gz")) if source.place.endswith(".gz") else None:
            raise BadInputError(
                f"{plain.shown} and {source.shown} are one table, plain and compressed: remove one, or make the "
                "pattern narrower"
            )
        if not source.place.endswith(SUFFIXES) and table.delimiter is None:
            raise BadInputError(
                f"{source.shown} is neither CSV nor Parquet by its name ({', '.join(SUFFIXES)}): rename it, make the "
                "pattern narrower, or say its delimiter where it is CSV"
            )
    return found


def _said(role: str) -> str:
    _, sign, log = role.partition("/")
    return f"the rows of log {log!r}" if sign else f"the {role}"


def _of_wheel(role: str, pattern: str, wheel: Wheel, folder: Path) -> tuple[Source, ...]:
    """Return the files of a wheel, which may be absent as yet; what else lies in their folder is none of them."""
    names = sorted(name for name in wheel.files if fnmatch.fnmatchcase(name, bare(pattern)))
    return tuple(
        Source(f"{role}/{name}", str(folder / name), str(folder / name), sha256=wheel.files[name], parts=parts)
        for name, parts in _fitting(pattern, names)
    )


def _fitting(pattern: str, paths: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the paths in which the braces of a pattern agree, and what they hold."""
    for path in paths:
        if (parts := parts_of(pattern, path)) is not None:
            yield path, parts


def _local(role: str, pattern: str) -> tuple[Source, ...]:
    root = _fixed_part(bare(pattern))
    paths = sorted(path for path in _glob(bare(pattern)) if Path(path).is_file())
    return tuple(
        Source(f"{role}/{PurePosixPath(path).relative_to(root)}", path, path, parts=parts)
        for path, parts in _fitting(pattern, paths)
    )


def _glob(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True)  # noqa: PTH207  # the pattern as a whole, absolute or not


def _remote(role: str, pattern: str) -> tuple[Source, ...]:
    import fsspec

    with _reaching(pattern):
        system, given = fsspec.core.url_to_fs(pattern)
        path = bare(given)
        root = _fixed_part(path)
        places = sorted(str(place) for place in (system.glob(path) if glob.has_magic(path) else [path]))
        places = [place for place in places if system.isfile(place)]
        return tuple(
            Source(
                f"{role}/{PurePosixPath(place).relative_to(root)}",
                place,
                system.unstrip_protocol(place),
                system,
                parts=parts,
            )
            for place, parts in _fitting(given, places)
        )


def _fixed_part(pattern: str) -> PurePosixPath:
    """Return the folder above the first part of a pattern that has a wildcard."""
    parts = PurePosixPath(pattern).parts
    magic = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return PurePosixPath(*parts[:magic])


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, ValueError) as error:
        raise BadInputError(f"{url} cannot be opened ({error}): install its fsspec driver or correct the URL") from None
    except FileNotFoundError:
        raise MissingError(f"{url} is gone: run again, or correct the pattern") from None
    except PermissionError as error:
        raise BadInputError(f"{url} may not be read ({error}): give the worker access to it") from None
    except OSError as error:
        raise RetryableError(f"{url} does not answer ({error}): run again") from error
