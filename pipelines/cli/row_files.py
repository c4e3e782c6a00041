"""How do the commands that answer a file of rows open a version, read the rows and write the answers?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.serving.served_model import ServedModel

ROWS = 65_536
"""Rows read, answered and written at a time; bounds memory."""


@contextmanager
def opened(model: str, which: str, rows: Path, provider: str) -> Iterator[tuple[ServedModel, int]]:
    """Check what a command was given, then yield a registered version, opened, and its number.

    Raises:
        BadInputError: there is no such provider, or the version's files were changed.
        MissingError: there is no such file, model or version.
    """
    import tempfile

    from components.platform.settings import Settings, quiet_engines
    from features.ground.errors import BadInputError, MissingError
    from registry.serving.served_model import ServedModel
    from registry.versions.client import Registry

    quiet_engines()
    if provider not in ("auto", "cpu", "cuda"):
        raise BadInputError(f"--provider is {provider!r}: use auto, cpu or cuda")
    if not rows.is_file():
        raise MissingError(f"no file {rows}: name a Parquet file of rows")
    settings = Settings.from_environment()
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    version = registry.version(model, int(which) if which.isdigit() else which)
    with tempfile.TemporaryDirectory(prefix="rankmill-") as folder:
        directory = registry.download(model, version.version, Path(folder) / "model")
        label = f"model {model} v{version.version}"
        served = ServedModel.open(directory, provider, label=label)  # type: ignore[arg-type]  # checked above
        yield served, version.version


def tables_of(rows: Path, size: int | None = ROWS) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file, so many at a time or all at once; of a file without rows one empty table.

    It may be a split of a training set, whose histories lie beside it.

    Raises:
        BadInputError: the file is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.ground.errors import BadInputError
    from features.joins.histories import listed, with_histories

    try:
        source = pq.ParquetFile(rows)
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{rows} is not a Parquet file ({error}): write the rows as Parquet") from None
    if size is None or not source.metadata.num_rows:
        yield listed(with_histories(source.read(), rows))
        return
    for batch in source.iter_batches(batch_size=size):
        yield listed(with_histories(pa.Table.from_batches([batch]), rows))


def whole_requests(served: ServedModel, rows: Path) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file a part at a time, with the features that are made of all rows of a request.

    Raises:
        BadInputError: the file is not Parquet, or a feature is made of what is no number.
    """
    import pyarrow.parquet as pq

    from features.within import with_within

    declaration, start = served.contract.schema_.declaration, 0
    made: pa.Table | None = None
    for part in tables_of(rows):
        names = [name for name in declaration.within if name not in part.column_names]
        sources = {str(declaration.request), *(declaration.within[name].of for name in names)}
        table = part
        if names and sources <= {*part.column_names}:
            if made is None:
                made = with_within(pq.read_table(rows, columns=sorted(sources)), declaration)
            for name in names:
                table = table.append_column(name, made[name].slice(start, part.num_rows))
        start += part.num_rows
        yield table


def id_columns(served: ServedModel, table: pa.Table) -> list[str]:
    """Return which of row, request, user and item id the rows hold, so that answers can be told apart."""
    declaration = served.contract.schema_.declaration
    names = ("row_id", declaration.request, declaration.user, declaration.item)
    return [name for name in names if name and name in table.column_names]


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
    """Yield a file beside `out` to write; it takes its place when the block ends well, else it is gone."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
