"""Which files of rows does a command read, one or a folder of them, here or at an address, and where do answers go?

Answers take the names of the files that they are about. A folder appears when all of its files are written; where a
store cannot rename, an empty `_SUCCESS` is written last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.cli.row_files import check_out, replacing

SUFFIX = ".parquet"
DONE = "_SUCCESS"
"""File that a store gets when all others are there, as Spark and Hadoop write it."""
SETTING = "the address"


@dataclass(frozen=True)
class Source:
    """One file of rows."""

    name: str
    """Below the folder that was named, such as ``day=2026-01-01/0.parquet``; of a single file its own."""
    place: str
    """Local path, or path in `system`."""
    rows: int
    system: Any = None
    """fsspec file system that holds it; None on this machine."""

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Yield it as a file of this machine: itself, or a copy that is gone afterwards, with histories beside it."""
        import tempfile

        import pyarrow.parquet as pq

        from features.joins.histories import referred_files

        if self.system is None:
            yield Path(self.place)
            return
        with tempfile.TemporaryDirectory(prefix="rankmill-rows-") as folder:
            path = Path(folder) / PurePosixPath(self.place).name
            self.system.get_file(self.place, str(path))
            for name in referred_files(pq.read_schema(path).names):
                (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
                self.system.get_file(f"{PurePosixPath(self.place).parent}/{name}", str(path.parent / name))
            yield path


@dataclass(frozen=True)
class Sources:
    """What was named."""

    files: tuple[Source, ...]
    folder: bool
    """Whether it is a folder."""

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)


def sources(rows: str) -> Sources:
    """Return the Parquet files of a file, a folder or an fsspec address of either, by name.

    Files and folders whose name begins with ``.`` or ``_`` are none, and neither are the histories of others.

    Raises:
        MissingError: there is no such file, or no Parquet file in the folder.
        BadInputError: a file is not Parquet, or the address has no driver.
        RetryableError: the store does not answer.
    """
    from features.ground.errors import MissingError
    from features.ground.remote_files import local_path, open_files
    from features.joins.histories import referred_files

    system, root = open_files(rows, SETTING)
    here = local_path(rows) is not None
    folder = bool(system.isdir(root))
    if not folder and not system.isfile(root):
        raise MissingError(f"no file {rows}: name a Parquet file of rows, or a folder of such files")
    if not folder:
        count, _ = _footer(system, root, rows)
        return Sources((Source(PurePosixPath(root).name, root, count, None if here else system),), False)
    found, histories = [], set[str]()
    for place in sorted(str(one) for one in system.find(root)):
        name = str(PurePosixPath(place).relative_to(root))
        if not name.endswith(SUFFIX) or any(part[0] in "._" for part in PurePosixPath(name).parts):
            continue
        count, columns = _footer(system, place, f"{rows.rstrip('/')}/{name}")
        histories |= {f"{PurePosixPath(place).parent}/{file}" for file in referred_files(columns)}
        found.append(Source(name, place, count, None if here else system))
    files = tuple(file for file in found if file.place not in histories)
    if not files:
        raise MissingError(f"no file *{SUFFIX} in {rows}: name a folder of Parquet files of rows")
    return Sources(files, True)


def _footer(system: Any, place: str, shown: str) -> tuple[int, list[str]]:
    """Return how many rows a Parquet file has and its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.ground.errors import BadInputError

    try:
        with system.open(place, "rb") as file:
            found = pq.read_metadata(file)
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{shown} is not a Parquet file ({error}): write the rows as Parquet") from None
    return int(found.num_rows), list(found.schema.to_arrow_schema().names)


@dataclass(frozen=True)
class Destination:
    """Where answers go while they are written."""

    made: Path
    """File, or folder of files, of this machine."""
    folder: bool
    system: Any = None
    """fsspec file system that takes each file of a folder when it is written; None on this machine."""
    place: str = ""
    """Path in `system`."""

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yield the place of a file of the folder, or of the only one, to write."""
        path = self.made / name if self.folder else self.made
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        if self.system is not None:
            self.system.put_file(str(path), f"{self.place}/{name}" if self.folder else self.place)
            path.unlink()


@contextmanager
def destination(out: str, folder: bool) -> Iterator[Destination]:
    """Yield where to write a file or a folder of files; here, it is at `out` when the block ends well, or not at all.

    An address gets each file when it is written, and `DONE` after the last.

    Raises:
        MissingError: the folder that `out` is to lie in does not exist.
        BadInputError: `out` is a folder and should be a file, or should be a new folder and is there already.
        RetryableError: the disk takes no more, or the store does not answer.
    """
    import tempfile

    from features.ground.errors import BadInputError
    from features.ground.remote_files import local_path, open_files

    system, place = open_files(out, SETTING)
    if folder and system.exists(place) and (system.isfile(place) or system.find(place)):
        raise BadInputError(f"{out} is there already: name another folder, or remove it")
    if (here := local_path(out)) is not None:
        if not folder:
            check_out(Path(here))
        with replacing(Path(here)) as partial:
            if folder:
                partial.mkdir(parents=True)
            yield Destination(partial, folder)
        return
    with tempfile.TemporaryDirectory(prefix="rankmill-out-") as made:
        yield Destination(Path(made) / PurePosixPath(place).name, folder, system, place)
        if folder:
            system.pipe_file(f"{place}/{DONE}", b"")
