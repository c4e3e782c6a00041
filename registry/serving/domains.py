"""Which business domain (product, placement, country) does each raw row belong to? Codes into a list of names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from features.ground.errors import BadInputError

if TYPE_CHECKING:
    import pyarrow as pa

Codes = np.ndarray[Any, np.dtype[np.int64]]
ELSEWHERE = -1
"""Code of a row whose domain is missing or not in the list."""


def domain_column(table: pa.Table, name: str | None, wanted_by: str) -> pa.ChunkedArray:
    """Return the column with the rows' domains.

    Args:
        table: raw rows.
        name: column of the domain, None when the model has none.
        wanted_by: what reads it, for the message, such as ``the calibration``.

    Raises:
        BadInputError: the model has no domain, or the rows have no such column.
    """
    if name is None:
        raise BadInputError(f"{wanted_by} differs by domain, but the model's declaration names none: declare one")
    if name not in table.column_names:
        raise BadInputError(f"rows have no column {name!r}, by which {wanted_by} differs: add it")
    return table[name]


def domain_codes(column: pa.ChunkedArray, known: Sequence[str]) -> Codes:
    """Return int64 ``[rows]``: the place of each row's domain in `known`, −1 for a missing or another one.

    Args:
        column: domains of any type; they are compared as text, as in the schema and in reports.
        known: names, each once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column.cast(pa.string()), value_set=pa.array(list(known), pa.string()), skip_nulls=True)
    return np.asarray(pc.fill_null(found, ELSEWHERE).to_numpy(), dtype=np.int64)
