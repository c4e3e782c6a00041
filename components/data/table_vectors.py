"""How are the vectors of a vocabulary's values kept in a training set, row by row?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ATTACHED = "vectors"
"""Folder of a training set."""


@dataclass(frozen=True)
class TableVectors:
    """What a training set holds of one table's values, row by row as its vocabulary numbers them."""

    vectors: NDArray[np.float32]
    """float32 ``[V, D]``; rows 0 (padding) and 1 (unknown), and those of values without a vector, are zero."""
    learned: NDArray[np.uint8]
    """uint8 ``[V]``: 0 for a value that the training split never held, or too rarely, else 1."""


def write_table(dataset: Path, table: str, held: TableVectors) -> None:
    """Write the vectors of a table beside a training set's vocabulary."""
    from safetensors.numpy import save_file

    (dataset / ATTACHED).mkdir(exist_ok=True)
    tensors = {"vectors": held.vectors, "learned": held.learned}
    save_file(tensors, str(dataset / ATTACHED / f"{table}.safetensors"))


def tables_of(dataset: Path) -> list[str]:
    """Return the tables of a training set whose values have vectors, sorted."""
    folder = dataset / ATTACHED
    return sorted(path.stem for path in folder.glob("*.safetensors")) if folder.is_dir() else []


def read_table(dataset: Path, table: str) -> TableVectors:
    """Return the vectors of a table."""
    from safetensors.numpy import load_file

    tensors = load_file(str(dataset / ATTACHED / f"{table}.safetensors"))
    return TableVectors(tensors["vectors"], tensors["learned"])
