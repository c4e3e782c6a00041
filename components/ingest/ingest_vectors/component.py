"""How do vectors of another model come in? Read with their ids, checked, sorted by item, and dated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.ingest.ingest_vectors.config import Config, Outputs
from components.ingest.ingest_vectors.files import local_file, marks
from components.ingest.item_vectors import Vectors, listed, write_vectors
from components.platform.artifacts import ItemVectors
from components.platform.contract import NoInputs, RunContext
from components.platform.errors import BadInputError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the vectors.

    Raises:
        BadInputError: a file cannot be read, lacks what is named, or holds no whole vectors.
        MissingError: there is no such file.
        RetryableError: its store does not answer.
    """
    for name, mark in marks(config, context.settings.data).items():
        context.annotate(name, mark)
    vectors = read(config, context.settings.data, context.scratch / "raw")
    if config.duplicates == "last":
        vectors = _last(vectors)
    vectors = Vectors(vectors.items, vectors.values.astype(config.dtype, copy=False))
    draft = context.draft("vectors")
    header = write_vectors(draft, vectors, config.key, config.made_by, config.known_until)
    until = f", known until {header.known_until:%Y-%m-%d}" if header.known_until else ""
    context.note(f"{header.items:,} items in {header.width} numbers of {header.dtype} by {header.made_by}{until}")
    return Outputs(vectors=ItemVectors(uri=str(draft)))


def read(config: Config, data: Path, scratch: Path) -> Vectors:
    """Return the vectors of the files, in their order.

    Raises:
        BadInputError: see `run`.
    """
    file = local_file(config.files, data, scratch)
    if file.suffix == ".parquet":
        table = _parquet(file, (config.item, config.vector))
        return Vectors(_ids(table[config.item], config.item), listed(table[config.vector], config.vector))
    if file.suffix != ".safetensors":
        raise BadInputError(f"{file} must end with .parquet or .safetensors: write the vectors as one of them")
    ids = local_file(config.ids, data, scratch) if config.ids is not None else None
    return _safetensors(file, ids, config)


def _parquet(file: Path, columns: tuple[str, ...]) -> dict[str, pa.Array]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        known = pq.read_schema(file).names
        for name in columns:
            if name not in known:
                raise BadInputError(f"{file} has no column {name!r}{did_you_mean(name, known)}")
        table = pq.read_table(file, columns=list(columns)).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise BadInputError(f"{file} cannot be read as Parquet ({error}): write it again") from None
    return {name: table.column(name).combine_chunks() for name in columns}


def _safetensors(file: Path, ids: Path | None, config: Config) -> Vectors:
    import numpy as np
    import pyarrow as pa
    from safetensors import SafetensorError, safe_open

    wanted = (config.vector,) if ids is not None else (config.vector, config.item)
    try:
        with safe_open(str(file), framework="numpy") as opened:
            known = list(opened.keys())
            for name in wanted:
                if name not in known:
                    raise BadInputError(f"{file} has no tensor {name!r}{did_you_mean(name, known)}")
            found = {name: opened.get_tensor(name) for name in wanted}
    except SafetensorError as error:
        raise BadInputError(f"{file} cannot be read as safetensors ({error}): write it again") from None
    values = found[config.vector]
    if values.ndim != 2 or values.dtype.kind != "f":
        raise BadInputError(
            f"tensor {config.vector!r} of {file} is {values.dtype} {list(values.shape)}: floats [n, D] are needed"
        )
    if ids is not None:
        items = _ids(_parquet(ids, (config.item,))[config.item], config.item)
    else:
        items = _ids(pa.array(found[config.item].reshape(-1)), config.item)
    if len(items) != len(values):
        raise BadInputError(
            f"{file} has {len(values):,} vectors and there are {len(items):,} ids: they must be as many"
        )
    return Vectors(items, values if values.dtype == np.float16 else values.astype(np.float32))


def _ids(ids: Any, name: str) -> pa.Array:
    """Return ids as int64 or string.

    Raises:
        BadInputError: they are neither, or one is missing.
    """
    import pyarrow as pa

    if ids.null_count:
        raise BadInputError(f"{ids.null_count:,} vectors have no {name!r}: leave them out")
    if pa.types.is_integer(ids.type):
        return ids.cast(pa.int64())
    if pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type):
        return ids.cast(pa.string())
    raise BadInputError(f"{name!r} is {ids.type}, and ids are whole numbers or texts: name another")


def _last(vectors: Vectors) -> Vectors:
    """Return the last vector of each item."""
    import numpy as np
    import pyarrow as pa

    ids = vectors.items.to_pylist()
    kept = np.array(sorted({item: at for at, item in enumerate(ids)}.values()), dtype=np.int64)
    return Vectors(vectors.items.take(pa.array(kept)), vectors.values[kept])
