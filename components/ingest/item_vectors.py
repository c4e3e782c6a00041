"""How are item vectors written and read, by every component that makes or takes them: finite, sorted, dated?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime

from components.platform.errors import BadInputError
from features.declaration import Frozen

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

VECTORS, HEADER = "vectors.parquet", "vectors.json"
ITEM, VECTOR = "item", "vector"
WIDEST = 4096
"""Most numbers of one item."""
Dtype = Literal["float32", "float16"]


class VectorsHeader(Frozen):
    """What item vectors are of, and how current."""

    key: str
    """Column of the item's id in the events."""
    items: int
    width: int
    """Numbers of each."""
    dtype: Dtype
    made_by: str
    """What made them and what it had learned; vectors with another `made_by` are not comparable."""
    known_until: AwareDatetime | None = None
    """Nothing later than this was read to make them; None where that is not known."""


@dataclass(frozen=True)
class Vectors:
    """Item vectors in memory."""

    items: pa.Array
    """int64 or string ``[n]``, ascending, each once."""
    values: NDArray[Any]
    """float32 or float16 ``[n, D]``."""


def write_vectors(draft: Path, vectors: Vectors, key: str, made_by: str, known_until: Any = None) -> VectorsHeader:
    """Write the files of an `ItemVectors`, sorted by item; the same vectors give the same bytes.

    Raises:
        BadInputError: there is no item, one comes twice, or a number is not finite.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    items, values = vectors.items, vectors.values
    if not len(items):
        raise BadInputError("there is no item with a vector: name other columns, or other files")
    if values.ndim != 2 or not 0 < values.shape[1] <= WIDEST:
        raise BadInputError(
            f"vectors have the shape {list(values.shape)}: one of 1 to {WIDEST:,} numbers each is needed"
        )
    if len(odd := np.flatnonzero(~np.isfinite(values.astype(np.float32)).all(axis=1))):
        raise BadInputError(
            f"the vectors of {len(odd):,} items are not finite, such as that of {items[int(odd[0])]}: leave them out"
        )
    order = pc.array_sort_indices(items)
    items, values = items.take(order), np.ascontiguousarray(values[order.to_numpy()])
    if len(pc.unique(items)) < len(items):
        counts = pc.value_counts(items)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        raise BadInputError(f"{len(twice):,} items have several vectors, such as {twice[0]}: keep one of each")
    flat = pa.array(values.reshape(-1))
    table = pa.table({ITEM: items, VECTOR: pa.FixedSizeListArray.from_arrays(flat, values.shape[1])})
    pq.write_table(table, draft / VECTORS, compression="zstd", version="2.6")
    dtype: Dtype = "float16" if values.dtype == np.float16 else "float32"
    header = VectorsHeader(
        key=key, items=len(items), width=values.shape[1], dtype=dtype, made_by=made_by, known_until=known_until
    )
    (draft / HEADER).write_text(header.model_dump_json(indent=2), encoding="utf-8")
    return header


def read_header(directory: Path) -> VectorsHeader:
    """Return `vectors.json` of an `ItemVectors`."""
    return VectorsHeader.model_validate_json((directory / HEADER).read_text(encoding="utf-8"))


def read_vectors(directory: Path) -> Vectors:
    """Return the vectors of an `ItemVectors`."""
    import pyarrow.parquet as pq

    table = pq.read_table(directory / VECTORS).combine_chunks()
    return Vectors(table.column(ITEM).combine_chunks(), listed(table.column(VECTOR).combine_chunks(), VECTOR))


def listed(lists: pa.Array, name: str) -> NDArray[Any]:
    """Return ``[rows, D]`` of lists of one width, float16 as it is and all else as float32.

    Raises:
        BadInputError: they are no lists of numbers, one is missing, or they have several widths.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = lists.type
    if not (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise BadInputError(f"column {name!r} is {kind}, no list of numbers: name the column of the vectors")
    widths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if lists.null_count or len(widths) != 1:
        raise BadInputError(f"column {name!r} has vectors of the widths {sorted(map(str, widths))}: all must have one")
    flat = lists.flatten()
    if flat.null_count or not pa.types.is_floating(flat.type):
        raise BadInputError(f"column {name!r} has vectors of {flat.type}, with {flat.null_count} missing: give floats")
    values: NDArray[Any] = np.asarray(flat.to_numpy(zero_copy_only=False))
    return values.astype(np.float16 if values.dtype == np.float16 else np.float32, copy=False).reshape(len(lists), -1)


def local_folder(uri: str, names: Sequence[str], data: Path, scratch: Path) -> Path:
    """Return a local folder with some files of an earlier stage's output, copied where it lies in another store.

    Args:
        uri: folder, ``data://…`` below the data folder, or any fsspec URI.
        names: files to copy; those that are absent are left out.
        data: what ``data://`` stands for.
        scratch: folder for copies.
    """
    from contextlib import suppress

    from features.ground.remote_files import local_path, open_files

    if uri.startswith("data://"):
        return data / uri.removeprefix("data://")
    local = local_path(uri)
    if local is not None:
        return Path(local)
    system, place = open_files(uri, "reuse")
    scratch.mkdir(parents=True, exist_ok=True)
    for name in names:
        with suppress(FileNotFoundError):
            system.get_file(f"{place}/{name}", str(scratch / name))
    return scratch
