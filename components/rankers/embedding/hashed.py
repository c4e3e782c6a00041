"""What if the vocabulary is too large for a row per value? Two rows of one fixed table, summed.

Svenstrup, Hansen and Winther, "Hash Embeddings for Efficient Word Representations", NeurIPS 2017: the vector of a
value is the weighted sum of k rows that k hash functions pick. Here k = 2 and every weight is 1, because learned
weights would be a table as long as the vocabulary again (Serrà and Karatzoglou, "Getting Deep Recommenders Fit",
RecSys 2017). Two values share a vector only when they share both rows: of random pairs, some two in `buckets`².
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.rankers.embedding.config import HashedConfig
from components.rankers.embedding.table import FieldEmbedding
from features.declaration import FIRST, FieldSpec

PRIME = 2**31 - 1
"""p: larger than any row number, so small that a product of two of its residues is an int64."""
FACTORS = ((1_498_743_763, 918_237_461, 377_846_101), (2_004_519_337, 1_250_496_027, 611_953_759))
"""(a, b, c) of each function ``h(x) = ((a·x² + b·x + c) mod p) mod buckets`` (Wegman and Carter, 1981).

Row numbers follow each other, and a linear function would send neighbours to few places of some tables.
"""


class HashedEmbedding(FieldEmbedding):
    """One table of `buckets` rows for the values of all fields.

    What is hashed is the row number that the value would have in a `FieldEmbedding`, so it tells tables apart and
    fields that share a table keep sharing vectors. Padding, missing and unknown values stay silent: no vector, no
    gradient. The rows that an unknown value would be hashed to are other values' own, and it has nothing of theirs.
    Initial vectors, of standard deviation `std`, are sums of two rows.

    Raises:
        BadInputError: fields that share a table disagree about its size.
    """

    first_heard = FIRST

    def __init__(self, fields: Sequence[FieldSpec], width: int, std: float, buckets: int) -> None:
        nn.Module.__init__(self)  # not the parent's, which would make the large table
        self.lay_out(fields, width, shared=True)
        self.buckets = buckets
        self.hold(buckets, std / math.sqrt(len(FACTORS)))

    @classmethod
    def of(  # type: ignore[override]  # each gets the options of its own config
        cls, fields: Sequence[FieldSpec], config: HashedConfig
    ) -> HashedEmbedding:
        """Return a new embedding of a config: `embedding_width`, `embedding_std`, `buckets`."""
        return cls(fields, config.embedding_width, config.embedding_std, config.buckets)

    def places(self, rows: Tensor) -> Tensor:
        """Return where the table is read: int64 ``[..., 2]`` of the int64 row numbers ``[...]``."""
        each = [((a * rows + b) % PRIME * rows + c) % PRIME % self.buckets for a, b, c in FACTORS]
        return torch.stack(each, dim=-1)

    def read_at(self, rows: Tensor) -> Tensor:
        """Return both places of every row; see `FieldEmbedding.read_at`."""
        return self.places(rows).reshape(-1)

    def silent_rows(self) -> Tensor:
        """Return no row: a row stands for values of many fields, so padding is masked instead."""
        return torch.zeros(0, dtype=torch.int64)

    def look_up(self, rows: Tensor) -> Tensor:
        """Return the sum of the two rows; see `FieldEmbedding.look_up`."""
        return self.gather(self.places(rows)).sum(dim=-2)
