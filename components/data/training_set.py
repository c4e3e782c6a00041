"""How are the splits of a training set read? Raw rows as Arrow, encoded rows as memory-mapped arrays."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from features.declaration import RankerSchema, weight_name

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
DOMAIN = "__domain"
"""Column of the domain's code: its index in `RankerSchema.domains`, −1 for an unseen one, 0 without domains."""
USER = "__user"
"""Column of a code that is equal for rows of the same user, within the training set."""
REQUEST = "__request"
"""Column of a code that is equal for rows of the same request, within the split, where rows have requests."""


@dataclass(frozen=True)
class EncodedSplit:
    """One split as arrays that point into the file."""

    features: dict[str, np.ndarray[Any, Any]]
    """By field: int64 ``[rows]``, float32 ``[rows]`` or int64 ``[rows, length]``."""
    labels: dict[str, np.ndarray[Any, Any]]
    """By feedback: float32 ``[rows]``, 0 or 1."""
    domain: np.ndarray[Any, Any]
    """int64 ``[rows]`` codes."""
    user: np.ndarray[Any, Any]
    """int64 ``[rows]`` codes."""
    weights: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """By feedback that has one: float32 ``[rows]``, how much a row counts in its loss."""
    request: np.ndarray[Any, Any] | None = None
    """int64 ``[rows]`` codes; None where rows have no requests."""
    pages: mmap.mmap | None = None

    def let_go(self) -> None:
        """Give the memory of what was read back to the system; reading it again reads the file."""
        if self.pages is not None:
            self.pages.madvise(mmap.MADV_DONTNEED)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.domain.shape[0])


def read_schema(directory: Path) -> RankerSchema:
    """Return `schema.json` of a training set, ranker or model directory."""
    return RankerSchema.model_validate_json((directory / "schema.json").read_text(encoding="utf-8"))


def write_raw(directory: Path, splits: Mapping[SplitName, pa.Table]) -> None:
    """Write the raw rows of the splits of one table; events behind their histories are written once for all of them."""
    from features.joins.histories import write_together

    (directory / "raw").mkdir()
    write_together(directory / "raw", {str(name): rows for name, rows in splits.items()})


def read_raw(directory: Path, split: SplitName, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the raw rows of one split: row_id, roles, labels and features as Feast returned them, or some columns.

    Histories are plain lists, a copy of an event for each row that lists it.
    """
    from features.joins.histories import listed, read_table

    return listed(read_table(directory / "raw" / f"{split}.parquet", columns))


def write_encoded(path: Path, split: EncodedSplit) -> None:
    """Write one encoded split as uncompressed Arrow IPC, so that it can be memory-mapped."""
    import numpy as np
    import pyarrow as pa

    columns: dict[str, pa.Array] = {}
    for name, values in sorted(split.features.items()):
        if values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            columns[name] = pa.array(np.ascontiguousarray(values))
    columns |= {name: pa.array(np.asarray(values, dtype=np.float32)) for name, values in sorted(split.labels.items())}
    columns |= {weight_name(name): pa.array(values) for name, values in sorted(split.weights.items())}
    columns[DOMAIN] = pa.array(np.asarray(split.domain, dtype=np.int64))
    columns[USER] = pa.array(np.asarray(split.user, dtype=np.int64))
    if split.request is not None:
        columns[REQUEST] = pa.array(np.asarray(split.request, dtype=np.int64))
    table = pa.table(columns).combine_chunks()
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))


def read_encoded(directory: Path, split: SplitName, schema: RankerSchema) -> EncodedSplit:
    """Return one encoded split without copying it into memory."""
    import numpy as np
    import pyarrow as pa

    with (directory / "encoded" / f"{split}.arrow").open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    table = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(pages))).read_all()

    def column(name: str) -> np.ndarray[Any, Any]:
        chunked = table.column(name)
        chunk = chunked.chunk(0) if chunked.num_chunks else pa.array([], type=chunked.type)
        if pa.types.is_fixed_size_list(chunk.type):
            width = chunk.type.list_size
            values = chunk.values.slice(chunk.offset * width, len(chunk) * width)
            return np.from_dlpack(values).reshape(len(chunk), width)
        return np.from_dlpack(chunk)  # `to_numpy` would load pandas

    return EncodedSplit(
        features={field.name: column(field.name) for field in schema.fields},
        labels={name: column(name) for name in schema.declaration.feedback},
        domain=column(DOMAIN),
        user=column(USER),
        weights={name: column(weight_name(name)) for name in schema.weighted},
        request=column(REQUEST) if schema.declaration.request else None,
        pages=pages,
    )
