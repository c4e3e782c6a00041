"""How do the commands that answer a file of rows open a version, read the rows and write the answers?"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from features.joins.row_file import RowFile
    from registry.serving.model.served_model import ServedModel


@contextmanager
def opened(model: str, which: str, provider: str) -> Iterator[tuple[ServedModel, int]]:
    """Yield a registered version, opened, and its number.

    Raises:
        BadInputError: there is no such provider, or the version's files were changed.
        MissingError: there is no such model or version.
    """
    import tempfile

    from components.platform.settings import Settings, quiet_engines
    from features.ground.errors import BadInputError
    from registry.serving.model.served_model import ServedModel
    from registry.versions.client import Registry

    quiet_engines()
    if provider not in ("auto", "cpu", "cuda"):
        raise BadInputError(f"--provider is {provider!r}: use auto, cpu or cuda")
    settings = Settings.from_environment()
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    version = registry.version(model, int(which) if which.isdigit() else which)
    with tempfile.TemporaryDirectory(prefix="rankmill-") as folder:
        directory = registry.download(model, version.version, Path(folder) / "model")
        label = f"model {model} v{version.version}"
        served = ServedModel.open(directory, provider, label=label)  # type: ignore[arg-type]  # checked above
        yield served, version.version


def check_rows(rows: Path) -> None:
    """Check that a file of rows is there, before any work.

    Raises:
        MissingError: it is not.
    """
    from features.ground.errors import MissingError

    if not rows.is_file():
        raise MissingError(f"no file {rows}: name a Parquet file of rows")


def row_file(rows: Path) -> RowFile:
    """Return a Parquet file of rows; it may be a split of a training set, whose histories lie beside it.

    Raises:
        BadInputError: the file is not Parquet, or a column comes twice.
        MissingError: histories that it refers to do not lie beside it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.ground.errors import BadInputError, MissingError
    from features.joins.histories import referred_files
    from features.joins.row_file import RowFile
    from registry.serving.incoming import check_names

    try:
        schema = pq.read_schema(rows)
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{rows} is not a Parquet file ({error}): write the rows as Parquet") from None
    check_names(schema.empty_table())
    if absent := [name for name in referred_files(schema.names) if not (rows.parent / name).is_file()]:
        raise MissingError(f"{rows} refers to histories in {absent[0]}, which is not beside it: copy that file too")
    return RowFile(rows)


def table_of(rows: Path) -> pa.Table:
    """Return all rows of a Parquet file, their histories as plain lists.

    Raises:
        BadInputError: the file is not Parquet, or a column comes twice.
    """
    from features.joins.histories import listed

    file = row_file(rows)
    return listed(file.read(file.column_names))


def id_columns(served: ServedModel, present: Collection[str]) -> list[str]:
    """Return which of row, request, user and item id the rows hold, so that answers can be told apart."""
    declaration = served.contract.schema_.declaration
    names = ("row_id", declaration.request, declaration.user, declaration.item)
    return [name for name in names if name and name in present]


def check_out(out: Path) -> None:
    """Check that a file can be written there, before any work.

    Raises:
        MissingError: its folder does not exist.
        BadInputError: it is a folder.
    """
    from features.ground.errors import BadInputError, MissingError

    if out.is_dir():
        raise BadInputError(f"{out} is a folder: name a file to write")
    if not out.parent.is_dir():
        raise MissingError(f"there is no folder {out.parent} to write {out.name} in: create it, or name another file")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield a file or folder beside `out` to write; it takes its place when the block ends well, else it is gone.

    Raises:
        RetryableError: the disk is full.
    """
    import errno
    import shutil

    from features.ground.errors import RetryableError

    partial = out.with_name(f".{out.name}.partial")
    try:
        if partial.is_dir():  # of a run that was killed
            shutil.rmtree(partial)
        yield partial
        partial.replace(out)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RetryableError(f"the disk of {out} is full: make room, and run again") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
