"""How are the splits of a training set read? Raw rows as Arrow, encoded rows as memory-mapped arrays.

Encoded rows follow from raw ones and the encoder. A training set that another one was made from with a new encoder
leaves them out, since its raw rows lie in the store already: they are encoded when they are read.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.platform.errors import BadInputError
from features.declaration import RankerSchema, weight_name

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from features.encoding.encoder import Encoder
    from features.encoding.slices import Slices
    from features.joins.row_file import RowFile
    from features.joins.stored_rows import StoredRows

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
DOMAIN = "__domain"
"""Column of the domain's code: its index in `RankerSchema.domains`, −1 for an unseen one, 0 without domains."""
USER = "__user"
"""Column of a code that is equal for rows of the same user, within the training set."""
REQUEST = "__request"
"""Column of a code that is equal for rows of the same request, within the split, where rows have requests."""
TIME = "__time"
"""Column of the request's time in µs since 1970 UTC, where rows have the times of histories."""


@dataclass(frozen=True)
class EncodedSplit:
    """One split as arrays that point into the file."""

    features: dict[str, np.ndarray[Any, Any] | Slices]
    """By field: indices ``[rows]`` in the smallest integer type that holds them, float32 ``[rows]`` or ``[rows, n]``,
    slices of histories, bags and times; lists may also be ``[rows, length]``, padded."""
    labels: dict[str, np.ndarray[Any, Any]]
    """By feedback: float32 ``[rows]``, 0 or 1."""
    domain: np.ndarray[Any, Any]
    """int64 ``[rows]`` codes."""
    user: np.ndarray[Any, Any]
    """int64 ``[rows]`` codes."""
    weights: dict[str, np.ndarray[Any, Any]] = default(default_factory=dict)
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

    def padded(self, at: NDArray[np.int64] | slice = slice(None)) -> dict[str, np.ndarray[Any, Any]]:
        """Return the inputs of some rows as a graph takes them: int64 and float32, lists as ``[rows, length]``."""
        return {name: padded_at(values, at) for name, values in self.features.items()}


def padded_at(values: np.ndarray[Any, Any] | Slices, at: NDArray[np.int64] | slice) -> np.ndarray[Any, Any]:
    """Return one field of some rows, a copy: int64 or float32, lists as ``[rows, length]``."""
    import numpy as np

    if not isinstance(values, np.ndarray):
        return values[at].padded()
    dtype = np.int64 if values.dtype.kind in "iu" else values.dtype
    if isinstance(at, slice):  # a view of the file, which an index is not
        return np.array(values[at], dtype=dtype)
    return np.take(values, at, axis=0).astype(dtype, copy=False)


def read_schema(directory: Path) -> RankerSchema:
    """Return `schema.json` of a training set, ranker or model directory."""
    return RankerSchema.model_validate_json((directory / "schema.json").read_text(encoding="utf-8"))


def write_raw(directory: Path, splits: Mapping[SplitName, pa.Table | StoredRows]) -> None:
    """Write the raw rows of the splits of one table; events behind their histories are written once for all of them."""
    from features.joins.stored_rows import write_together

    (directory / "raw").mkdir()
    write_together(directory / "raw", {str(name): rows for name, rows in splits.items()})


def read_raw(
    directory: Path, split: SplitName, columns: Sequence[str] | None = None, *, shared: bool = False
) -> pa.Table:
    """Return the raw rows of one split: row_id, roles, labels and features as Feast returned them, or some columns.

    Histories are plain lists, a copy of an event for each row that lists it; with `shared` they are Arrow ``list_view``
    columns whose rows share the events, as encoders and models read them.
    """
    from features.joins.histories import listed, read_table

    table = read_table(directory / "raw" / f"{split}.parquet", columns)
    return table if shared else listed(table)


def raw_file(directory: Path, split: SplitName) -> RowFile:
    """Return the raw rows of one split, to be read a block after the other: what `read_raw` returns, shared."""
    from features.joins.row_file import RowFile

    return RowFile(directory / "raw" / f"{split}.parquet")


def labelled_files(directory: Path) -> list[RowFile]:
    """Return the files that hold the raw rows of a `LabelledRows`: those of all splits of a training set."""
    from features.joins.row_file import RowFile

    whole = directory / "raw" / "rows.parquet"
    return [RowFile(whole)] if whole.exists() else [raw_file(directory, split) for split in SPLITS]


def write_encoded(path: Path, split: EncodedSplit) -> None:
    """Write one encoded split as uncompressed Arrow IPC, so that it can be memory-mapped."""
    from components.data.encoded_file import lay_out

    lay_out(path, split, split.rows).close()


def encode_split(
    part: pa.Table, split: SplitName, encoder: Encoder, schema: RankerSchema, users: pa.Array
) -> EncodedSplit:
    """Return the raw rows of one split as a ranker reads them.

    Args:
        part: roles, labels, weights and features; histories may be views.
        split: validation and test rows stand in the place that a model answers for.
        encoder: fitted on the training rows.
        schema: what the columns mean.
        users: distinct users, whose places are their codes.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from registry.serving.incoming import placed

    declaration = schema.declaration
    if declaration.domain is None:
        domain = np.zeros(part.num_rows, dtype=np.int64)
    else:
        values, known = part.column(declaration.domain).cast(pa.string()), pa.array(schema.domains, pa.string())
        domain = pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy().astype(np.int64)
    return EncodedSplit(
        features=encoder.encode_slices(part if split == "train" else placed(part, declaration)),
        labels={label: part.column(label).to_numpy().astype(np.float32) for label in declaration.feedback},
        domain=domain,
        user=_codes(part.column(declaration.user), users),
        weights={label: part.column(weight_name(label)).to_numpy() for label in schema.weighted},
        request=_codes(part.column(declaration.request)) if declaration.request else None,
    )


def _codes(column: pa.ChunkedArray, values: pa.Array | None = None) -> np.ndarray[Any, Any]:
    import numpy as np
    import pyarrow.compute as pc

    known = pc.unique(column.combine_chunks()) if values is None else values
    return pc.index_in(column, value_set=known).to_numpy().astype(np.int64)


def read_encoded(directory: Path, split: SplitName, schema: RankerSchema) -> EncodedSplit:
    """Return one encoded split without copying it into memory; where it was left out, it is encoded now."""
    path = directory / "encoded" / f"{split}.arrow"
    if path.exists():
        return _mapped(path, schema)
    with tempfile.TemporaryDirectory(prefix="rankmill-encoded-") as scratch:
        made = Path(scratch) / path.name
        write_encoded(made, _encoded_now(directory, split, schema))
        return _mapped(made, schema)  # what is mapped stays as long as it is read, without a name


def _encoded_now(directory: Path, split: SplitName, schema: RankerSchema) -> EncodedSplit:
    from features.encoding.files import read_encoder

    rows = read_raw(directory, split, shared=True)
    return encode_split(rows, split, read_encoder(directory), schema, users_of(directory, schema))


def users_of(directory: Path, schema: RankerSchema) -> pa.Array:
    """Return the distinct users of a training set, in the order in which its splits name them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    name = schema.declaration.user
    columns = [read_raw(directory, split, [name]).column(name) for split in SPLITS]
    return pc.unique(pa.chunked_array([chunk for column in columns for chunk in column.chunks]).combine_chunks())


def _mapped(path: Path, schema: RankerSchema) -> EncodedSplit:
    import numpy as np
    import pyarrow as pa

    from features.encoding.slices import Slices
    from features.joins.histories import is_view

    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    table = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(pages))).read_all()

    def chunk(name: str) -> pa.Array:
        chunked = table.column(name)
        return chunked.chunk(0) if chunked.num_chunks else pa.array([], type=chunked.type)

    def whole(part: pa.Array) -> np.ndarray[Any, Any]:
        return np.from_dlpack(part)  # `to_numpy` would load pandas

    def column(name: str) -> np.ndarray[Any, Any]:
        found = chunk(name)
        if pa.types.is_fixed_size_list(found.type):
            width = found.type.list_size
            values = found.values.slice(found.offset * width, len(found) * width)
            return whole(values).reshape(len(found), width)
        return whole(found)

    features: dict[str, np.ndarray[Any, Any] | Slices] = {}
    for field in schema.fields:
        found = chunk(field.name)
        if not is_view(found.type):
            features[field.name] = column(field.name)
            continue
        starts, counts, values = (whole(part) for part in (found.offsets, found.sizes, found.values))
        times = column(TIME) if field.kind == "elapsed" else None
        features[field.name] = Slices(values, starts, counts, field.length, times)
    return EncodedSplit(
        features=features | _of_one_stream(features, schema),
        labels={name: column(name) for name in schema.declaration.feedback},
        domain=column(DOMAIN),
        user=column(USER),
        weights={name: column(weight_name(name)) for name in schema.weighted},
        request=column(REQUEST) if schema.declaration.request else None,
        pages=pages,
    )


def _of_one_stream(
    features: dict[str, np.ndarray[Any, Any] | Slices], schema: RankerSchema
) -> dict[str, np.ndarray[Any, Any] | Slices]:
    """Return the attributes of events with the very bounds of their times, so that a reader sees that they are equal.

    Raises:
        BadInputError: they lie elsewhere.
    """
    import numpy as np

    from features.encoding.slices import at_places_of, same_places

    found: dict[str, np.ndarray[Any, Any] | Slices] = {}
    for field in schema.fields:
        ids, times = features[field.name], features.get(field.timed_by or "")
        if times is None or isinstance(ids, np.ndarray) or isinstance(times, np.ndarray):
            continue
        if not same_places(ids, times):
            raise BadInputError(
                f"field {field.name!r} holds other events than its times {field.timed_by!r}: build the training set "
                "again"
            )
        found[field.name] = at_places_of(times, ids)
    return found
