"""How is what a service sees kept? As Parquet segments in folders by hour, whole or not there.

A segment is written under a hidden name and renamed; on an object store it appears when it is whole. A process that
dies loses what it has not written yet, never a part of a segment.
"""

from __future__ import annotations

import io
import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.ground.remote_files import local_path, open_files

if TYPE_CHECKING:
    import pyarrow as pa

HOUR = timedelta(hours=1)
SHADOW = "shadow"
"""Role of a version whose answers only the log hears."""
SERVED = "served."
"""Prefix of the columns that tell of the question of a row; names of raw columns have no dots."""
BASE, ANSWER = "base.", "answer."
"""Columns of a segment besides the raw ones, whose names have no dots: the question, `BASE` with each task before the
error memory, `ANSWER` with each task and ``expected_value`` as served."""
HIDDEN = "hidden."
"""The representation that an error memory finds its keys by: float32 lists of one length, which a segment holds as the
bytes of their numbers, low byte first."""
PLACE = f"{SERVED}place"
"""Column with the place of a row among the candidates of its question, from 0."""
ONCE = b"rankmill.once"
"""Metadata of a segment of answers: which columns only the first candidate of a question holds, for all of them."""
TOLD = b"rankmill.told"
"""Metadata of a segment of answers: which raw columns a question tells, a list in JSON; others come from views."""
HASHED = b"rankmill.hashed"
"""Metadata of rows: which raw columns hold hashes instead of values, a list in JSON."""
SETTING = "RANKMILL_ARTIFACTS"


def segments_of(artifacts: str, service: str) -> tuple[Segments, Segments]:
    """Return where a service keeps what it answered, and the feedback, below the URI of the artifact store."""
    below = f"{artifacts.rstrip('/')}/served/{service}"
    return Segments(f"{below}/questions"), Segments(f"{below}/feedback")


def services_in(artifacts: str) -> list[str]:
    """Return the services that ever kept a log below the URI of an artifact store, by name."""
    files, root = open_files(f"{artifacts.rstrip('/')}/served", SETTING)
    return sorted(name for path in _listed(files, root) if (name := path.rstrip("/").rpartition("/")[2]))


@dataclass(frozen=True)
class Segments:
    """A folder of segments, of any file system."""

    uri: str
    """fsspec URI of the folder."""

    def write(self, table: pa.Table, at: datetime) -> str:
        """Write one segment and return its name; it is on the disk when this returns.

        Args:
            table: its rows.
            at: moment that names its folder, UTC.

        Raises:
            RetryableError: the place cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = _with_bytes(table)
        leaves = [f"{f.name}.list.element" if pa.types.is_nested(f.type) else f.name for f in table.schema]
        packed = [leaf for leaf in leaves if leaf != HIDDEN]
        codecs = {leaf: "zstd" if leaf in packed else "none" for leaf in leaves}
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression=codecs, use_dictionary=packed, write_statistics=packed)
        folder = f"date={at:%Y-%m-%d}/hour={at:%H}"
        name = f"{at:%M%S}-{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:12]}.parquet"
        if (local := local_path(self.uri)) is not None:
            _write_here(Path(local) / folder, name, buffer.getvalue())
        else:
            files, root = open_files(self.uri, SETTING)
            files.pipe_file(f"{root}/{folder}/{name}", buffer.getvalue())
        return f"{folder}/{name}"

    def read(self, start: datetime, end: datetime) -> Iterator[pa.Table]:
        """Yield the segments of the hours of ``[start, end)``, in the order of their names; rows may lie outside.

        Args:
            start: first moment, UTC.
            end: first moment after it, UTC.
        """
        for name in self.names(start, end):
            yield self.open(name)

    def names(self, start: datetime, end: datetime) -> list[str]:
        """Return the names of the segments of the hours of ``[start, end)``, in order."""
        files, root = open_files(self.uri, SETTING)
        first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        found = []
        for day in _folders(files, root, "date"):
            if not f"date={first:%Y-%m-%d}" <= day <= f"date={end.astimezone(UTC):%Y-%m-%d}":
                continue
            for hour in _folders(files, f"{root}/{day}", "hour"):
                moment = _moment(day, hour)
                if moment is not None and first <= moment < end:
                    inside = self._names(files, f"{root}/{day}/{hour}")
                    found += [f"{day}/{hour}/{name.rpartition('/')[2]}" for name in inside]
        return found

    def open(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a segment, all columns or some.

        Raises:
            FileNotFoundError: it is there no more.
        """
        import pyarrow.parquet as pq

        files, root = open_files(self.uri, SETTING)
        with files.open(f"{root}/{name}", "rb") as stream:
            held = pq.ParquetFile(stream)
            if columns is None:
                return _for_all(_with_numbers(held.read()))
            wanted = {PLACE, *columns}
            read = held.read(columns=[one for one in held.schema_arrow.names if one in wanted])
            return _for_all(_with_numbers(read))

    def forget(self, before: datetime) -> int:
        """Delete the days that ended before a moment and return how many that were."""
        files, _ = open_files(self.uri, SETTING)
        days = self.days_before(before)
        for path in days:
            files.rm(path, recursive=True)
        return len(days)

    def days_before(self, before: datetime) -> list[str]:
        """Return the folders of the days that ended before a moment."""
        files, root = open_files(self.uri, SETTING)
        found = []
        for path in _listed(files, root):
            day = str(path).rpartition("date=")[2]
            try:
                ended = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
            except ValueError:
                continue
            if ended <= before:
                found.append(path)
        return sorted(found)

    @staticmethod
    def _names(files: Any, folder: str) -> list[str]:
        return sorted(
            name
            for name in _listed(files, folder)
            if name.endswith(".parquet") and not name.rpartition("/")[2].startswith(".")
        )


def hashed_in(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns of rows that hold hashes instead of values."""
    return tuple(json.loads((schema.metadata or {}).get(HASHED, b"[]")))


def _with_bytes(table: pa.Table) -> pa.Table:
    """Return rows whose representation is bytes: random numbers do not become smaller, and lists cost five times that.

    To write lists or to try to compress them costs more than all other columns.
    """
    import pyarrow as pa

    at = table.schema.get_field_index(HIDDEN)
    if at < 0 or not pa.types.is_fixed_size_list(kind := table.schema.types[at]) or kind.list_size == 0:
        return table
    chunks = []
    for chunk in table.column(at).chunks:
        values = np.ascontiguousarray(chunk.flatten().to_numpy(), dtype="<f4")
        buffers = [None, pa.py_buffer(values)]
        chunks.append(pa.Array.from_buffers(pa.binary(4 * kind.list_size), len(chunk), buffers))
    return table.set_column(at, HIDDEN, pa.chunked_array(chunks, pa.binary(4 * kind.list_size)))


def _with_numbers(table: pa.Table) -> pa.Table:
    """Return rows whose representation is float32 lists again; segments of an earlier release hold them as such."""
    import pyarrow as pa

    at = table.schema.get_field_index(HIDDEN)
    if at < 0 or not pa.types.is_fixed_size_binary(kind := table.schema.types[at]):
        return table
    width = kind.byte_width // 4
    held = pa.concat_arrays(table.column(at).chunks) if table.num_rows else pa.array([], kind)
    values = np.frombuffer(
        held.buffers()[1] or b"", dtype="<f4", count=width * len(held), offset=4 * width * held.offset
    )
    return table.set_column(at, HIDDEN, pa.FixedSizeListArray.from_arrays(pa.array(values), width))


def _for_all(table: pa.Table) -> pa.Table:
    """Return rows of which each holds what the first candidate of its question holds for all."""
    noted = json.loads((table.schema.metadata or {}).get(ONCE, b"[]"))
    once = [name for name in noted if name in table.column_names]
    if not once:
        return table
    import pyarrow as pa

    place = table[PLACE].to_numpy()
    first = pa.array(np.arange(len(place)) - place)
    for name in once:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), table[name].take(first))
    return table


def _folders(files: Any, folder: str, kind: str) -> list[str]:
    """Return the names of the folders ``kind=…`` in a folder, in order."""
    names = (path.rstrip("/").rpartition("/")[2] for path in _listed(files, folder))
    return sorted(name for name in names if name.startswith(f"{kind}="))


def _moment(day: str, hour: str) -> datetime | None:
    try:
        return datetime.fromisoformat(f"{day.removeprefix('date=')}T{hour.removeprefix('hour=')}").replace(tzinfo=UTC)
    except ValueError:
        return None


def _listed(files: Any, folder: str) -> list[str]:
    try:
        return [str(name) for name in files.ls(folder, detail=False)]
    except FileNotFoundError:
        return []


def _write_here(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}"
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(folder / name)
    finally:
        partial.unlink(missing_ok=True)
