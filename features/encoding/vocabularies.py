"""Which values does a vocabulary hold, and where does a value stand in it or by its hash?"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from operator import methodcaller
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.ground.errors import BadInputError

ABSENT = -1
"""Stands for the place of a value that a vocabulary does not hold."""
_BLOCK = 64
"""Texts between two of those whose order is kept in memory."""
_REMEMBERED = 1 << 16
"""Texts whose places are remembered, of those that were asked for last."""


class Vocabulary:
    """Known values of one table: int64 or large_string, ascending (texts by their UTF-8 bytes), each once.

    The values stay where they are, which may be a mapped file. A few values are searched for; many are looked up in a
    hash table of the whole vocabulary, which costs as much for one value as for a million.
    """

    def __init__(self, values: pa.Array) -> None:
        """Take values that are sorted already."""
        self.values = values

    @classmethod
    def sorted(cls, values: pa.Array | Iterable[int] | Iterable[str]) -> Vocabulary:
        """Return the vocabulary of different values in any order."""
        array = values if isinstance(values, pa.Array) else pa.array([*values])
        array = array.cast(pa.int64() if pa.types.is_integer(array.type) or not len(array) else pa.large_string())
        return cls(array.take(pc.array_sort_indices(array)))

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        """Yield the values as Python has them."""
        return iter(self.values.to_pylist())

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same values."""
        return isinstance(other, Vocabulary) and bool(self.values.equals(other.values))

    __hash__ = None  # type: ignore[assignment]

    def places(self, wanted: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return int64 ``[n]``: where each wanted text or number stands, `ABSENT` for an unknown or missing one."""
        if not len(self):
            return np.full(len(wanted), ABSENT)
        numbers = pa.types.is_integer(self.values.type)
        if len(wanted) > 8 and len(wanted) * (4 if numbers else _BLOCK) > len(self):
            found = pc.index_in(wanted.cast(self.values.type), value_set=self.values)
            return found.fill_null(ABSENT).to_numpy().astype(np.int64)
        if not numbers:
            texts = wanted.view(pa.binary() if pa.types.is_string(wanted.type) else pa.large_binary())
            return np.array([*map(self._place, texts.to_pylist())], dtype=np.int64)
        numbered = (wanted.fill_null(0) if wanted.null_count else wanted).to_numpy()
        at = np.minimum(self._numbers.searchsorted(numbered), len(self) - 1)
        at[self._numbers[at] != numbered] = ABSENT
        if wanted.null_count:
            at[wanted.is_null().to_numpy(zero_copy_only=False)] = ABSENT
        return at

    @cached_property
    def _numbers(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.asarray(self.values.to_numpy())

    @cached_property
    def _place(self) -> Callable[[bytes | None], int]:
        """Return the function from a text to its place, which remembers what it was asked last."""
        values = self.values.view(pa.large_binary())
        first = values.take(pa.array(np.arange(0, len(values), _BLOCK))).to_pylist()

        @lru_cache(_REMEMBERED)
        def place(wanted: bytes | None) -> int:
            if wanted is None:
                return ABSENT
            end = bisect_right(first, wanted) * _BLOCK
            at = bisect_left(values, wanted, max(end - _BLOCK, 0), min(end, len(values)), key=methodcaller("as_py"))
            return at if at < len(values) and values[at].as_py() == wanted else ABSENT

        return place


def vocabulary_of(owner: str, counted: list[pa.StructArray], min_count: int) -> Vocabulary:
    """Return the values that occur at least `min_count` times; raise BadInputError where none does.

    Args:
        owner: feature whose vocabulary it is.
        counted: of each column that shares it, values and counts, as Arrow's `value_counts` gives them.
        min_count: how often a value must occur.
    """
    values, counts = (pa.concat_arrays([one.field(part) for one in counted]) for part in ("values", "counts"))
    if len(counted) > 1:
        total = pa.table({"value": values, "count": counts}).group_by("value").aggregate([("count", "sum")])
        values, counts = (total[name].combine_chunks() for name in ("value", "count_sum"))
    kept = values.filter(pc.and_(values.is_valid(), pc.greater_equal(counts, min_count)))
    if len(kept) == 0:
        raise BadInputError(
            f"feature {owner!r} has no value in the training split that occurs {min_count} times: drop it"
        )
    return Vocabulary.sorted(kept)


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
