"""Where are the keys of a stream while it is replayed? In a file, of which a part is read when its turn comes.

They are the widest thing about a row, and a replay needs those of one part of a slot at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StoredKeys:
    """Keys on disk."""

    path: Path
    shape: tuple[int, int]
    """Rows and width."""

    @classmethod
    def written(cls, path: Path, parts: Iterable[Array], width: int) -> StoredKeys:
        """Write float64 keys ``[rows, width]`` as they come."""
        rows = 0
        with path.open("wb") as file:
            for keys in parts:
                file.write(np.ascontiguousarray(keys, dtype=np.float64).data)
                rows += len(keys)
        return cls(path, (rows, width))

    def __getitem__(self, rows: slice) -> Array:
        """Return the keys of some rows, float64 ``[rows, width]``."""
        start, stop, _ = rows.indices(self.shape[0])
        width = self.shape[1]
        found = np.fromfile(self.path, np.float64, max(0, stop - start) * width, offset=start * width * 8)
        return found.reshape(-1, width)
