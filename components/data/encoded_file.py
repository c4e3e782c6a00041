"""How is an encoded split written that memory should not hold? Laid out as a whole first, then filled in."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from components.data.training_set import DOMAIN, REQUEST, TIME, USER, EncodedSplit
from features.declaration import weight_name

if TYPE_CHECKING:
    from features.encoding.slices import Slices

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blank:
    """A column that is filled in later."""

    dtype: np.dtype[Any]
    width: int = 0
    """Numbers of a row; 0 where a row is a number."""


class EncodedFile:
    """An uncompressed Arrow IPC file of one record batch, whose blank columns are filled in."""

    def __init__(self, path: Path, places: Mapping[str, tuple[Blank, int]]) -> None:
        """Open a file that is laid out; `places` says where each blank column begins."""
        self._places = places
        self._file = path.open("r+b")

    def fill(self, name: str, start: int, values: Array) -> None:
        """Write the values of some rows.

        Args:
            name: a blank column.
            start: first row.
            values: ``[rows]`` or ``[rows, width]``.
        """
        blank, begin = self._places[name]
        data = np.ascontiguousarray(values, dtype=blank.dtype).reshape(-1).view(np.uint8).data
        at = begin + start * max(1, blank.width) * blank.dtype.itemsize
        while len(data):  # one call writes 2 GiB at most
            done = os.pwrite(self._file.fileno(), data, at)
            data, at = data[done:], at + done

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def lay_out(path: Path, split: EncodedSplit, rows: int) -> EncodedFile:
    """Write a split whose columns are arrays or, to be filled in, `Blank`."""
    columns: dict[str, Array | Slices | Blank] = {}
    for name, values in sorted(split.features.items()):
        columns[name] = values
        if (requests := getattr(values, "requests", None)) is not None:
            columns[TIME] = requests
    columns |= {name: _as(values, np.float32) for name, values in sorted(split.labels.items())}
    columns |= {weight_name(name): values for name, values in sorted(split.weights.items())}
    columns[DOMAIN], columns[USER] = _as(split.domain, np.int64), _as(split.user, np.int64)
    if split.request is not None:
        columns[REQUEST] = _as(split.request, np.int64)
    arrays = {name: _array(values, rows) for name, values in columns.items()}
    nothing = [_numbers(arrays[name]).address for name, values in columns.items() if isinstance(values, Blank)]
    table = pa.table(arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        with pa.PythonFile(_Gaps(file, nothing), "w") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))
        file.truncate()
    blanks = {name: values for name, values in columns.items() if isinstance(values, Blank)}
    return EncodedFile(path, _places(path, blanks) if rows else {name: (b, 0) for name, b in blanks.items()})


def _as(values: Any, dtype: Any) -> Any:
    return values if isinstance(values, Blank) else np.asarray(values, dtype=dtype)


def _array(values: Any, rows: int) -> pa.Array:
    if isinstance(values, Blank):
        # Memory that nobody has written to takes no room.
        size = rows * max(1, values.width) * values.dtype.itemsize
        nothing = pa.py_buffer(mmap.mmap(-1, size)) if size else pa.py_buffer(b"")
        flat = pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), size // values.dtype.itemsize, [None, nothing])
        return pa.FixedSizeListArray.from_arrays(flat, values.width) if values.width else flat
    if not isinstance(values, np.ndarray):
        return _view(values)
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
    return pa.array(np.ascontiguousarray(values))


def _view(slices: Slices) -> pa.Array:
    """Return the lists as an Array whose rows may share values."""
    large = len(slices.values) > np.iinfo(np.int32).max
    kind, view = (np.int64, pa.LargeListViewArray) if large else (np.int32, pa.ListViewArray)
    bounds = (pa.array(part.astype(kind, copy=False)) for part in (slices.starts, slices.counts))
    return view.from_arrays(*bounds, pa.array(slices.values))


def _places(path: Path, blanks: Mapping[str, Blank]) -> dict[str, tuple[Blank, int]]:
    """Return at which byte of a file each blank column begins."""
    with pa.memory_map(str(path)) as mapped:
        whole = mapped.read_buffer()
        batch = pa.ipc.open_file(pa.BufferReader(whole)).get_batch(0)

        def place(name: str) -> int:
            return int(_numbers(batch.column(name)).address - whole.address)

        return {name: (blank, place(name)) for name, blank in blanks.items()}


def _numbers(column: pa.Array) -> pa.Buffer:
    return (column.values if pa.types.is_fixed_size_list(column.type) else column).buffers()[1]


class _Gaps(io.RawIOBase):
    """A file in which what nobody has written to yet is a gap: zeros that take neither time nor room."""

    def __init__(self, file: BinaryIO, nothing: Collection[int]) -> None:
        self._file, self._nothing = file, nothing

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        size = data.size if isinstance(data, pa.Buffer) else len(data)
        if isinstance(data, pa.Buffer) and data.address in self._nothing:
            self._file.seek(size, os.SEEK_CUR)
        else:
            self._file.write(data)
        return int(size)
