"""How is an encoder kept beside a model? `encoder.json`, and its vocabularies in a file that is mapped, not read.

`encoder.json` holds what was learned of each feature, the version of this layout, and the sha256 of
`vocabularies.arrow`, so that two encoders are equal where their `encoder.json` is. `vocabularies.arrow` is an
uncompressed Arrow IPC file of one row, with a column per vocabulary: its values as one list, ``large_list<int64>`` or
``large_list<large_string>``, ascending (texts by their UTF-8 bytes), each once. Value i has index i + 2.

Version 1 kept the vocabularies in `encoder.json` itself, and is still read.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import ValidationError

from features.declaration import Frozen, Name
from features.encoding.encoder import Encoder
from features.encoding.fitted import FittedField
from features.encoding.vocabularies import Vocabulary
from features.ground.errors import BadInputError, MissingError
from features.ground.files import sha256_file

ENCODER = "encoder.json"
VOCABULARIES = "vocabularies.arrow"
FILES = (ENCODER, VOCABULARIES)


class _File(Frozen):
    """What `encoder.json` holds."""

    version: Literal[1, 2] = 1
    fitted: tuple[FittedField, ...]
    vocabularies: dict[Name, tuple[int, ...] | tuple[str, ...]] | None = None
    """Of version 1 only."""
    sha256: str = ""


def write_encoder(encoder: Encoder, directory: Path) -> None:
    """Write the files of an encoder; the same encoder gives the same bytes."""
    lists = {
        name: pa.LargeListArray.from_arrays(pa.array([0, len(known)], pa.int64()), known.values)
        for name, known in sorted(encoder.vocabularies.items())
    }
    batch = pa.RecordBatch.from_arrays([*lists.values()], names=[*lists])
    partial = directory / f".{VOCABULARIES}.{uuid.uuid4().hex}"  # the file itself may be mapped
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    partial.replace(directory / VOCABULARIES)
    file = _File(version=2, fitted=encoder.fitted, sha256=sha256_file(directory / VOCABULARIES))
    (directory / ENCODER).write_text(file.model_dump_json(indent=2, exclude={"vocabularies"}), encoding="utf-8")


def read_encoder(directory: Path, called: str = "", again: str = "make it again") -> Encoder:
    """Return the encoder of a training set, a ranker or a model; its vocabularies stay in their file.

    Args:
        directory: local folder.
        called: what messages call it; where it lies when empty.
        again: what messages say to do.

    Raises:
        MissingError: a file is missing.
        BadInputError: a file cannot be read, or is not what was written.
    """
    called = called or str(directory)
    name, reason = ENCODER, ""
    try:
        file = _File.model_validate_json((directory / ENCODER).read_bytes())
        if file.vocabularies is not None:
            return Encoder(file.fitted, {table: Vocabulary.sorted(known) for table, known in file.vocabularies.items()})
        name = VOCABULARIES
        if sha256_file(directory / VOCABULARIES) == file.sha256:
            return Encoder(file.fitted, _mapped(directory / VOCABULARIES))
        reason = "it is not the one that belongs to encoder.json"
    except FileNotFoundError:
        raise MissingError(f"{called} has no {name}: {again}") from None
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    raise BadInputError(f"{name} of {called} cannot be read ({reason}): {again}")


def copy_encoder(directory: Path, to: Path) -> None:
    """Copy the files of an encoder, byte for byte."""
    for name in FILES:
        if (directory / name).exists():  # version 1 has one
            shutil.copyfile(directory / name, to / name)


def _mapped(path: Path) -> dict[str, Vocabulary]:
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    return {name: Vocabulary(batch.column(name)[0].values) for name in batch.schema.names}
