"""Which values does a vocabulary hold, and which index has a value in it or by its hash?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.ground.errors import BadInputError


def vocabulary_values(column: pa.Array) -> pa.Array:
    """Return strings as they are, whole numbers as int64."""
    return column if pa.types.is_string(column.type) else column.cast(pa.int64())


def vocabulary_of(owner: str, arrays: list[pa.Array], min_count: int) -> tuple[int, ...] | tuple[str, ...]:
    """Return the values that occur at least `min_count` times, sorted; raise BadInputError where none does."""
    values = pa.concat_arrays([array.drop_null() for array in arrays])
    counts = values.value_counts()
    kept = counts.field("values").filter(pc.greater_equal(counts.field("counts"), min_count))
    if len(kept) == 0:
        raise BadInputError(
            f"feature {owner!r} has no value in the training split that occurs {min_count} times: drop it"
        )
    return tuple(sorted(kept.to_pylist()))


def hashed(values: pa.Array) -> np.ndarray[Any, Any]:
    """Return uint64 hashes that are the same on every machine and in every version."""
    if pa.types.is_string(values.type):
        from pandas.util import hash_array

        return np.asarray(hash_array(values.fill_null("").to_numpy(zero_copy_only=False), categorize=True))
    x = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64)
    with np.errstate(over="ignore"):  # the finaliser of SplitMix64 works modulo 2^64
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
