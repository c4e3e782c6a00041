"""OptInter: which pairs of fields deserve a table of their own, which a product, and which nothing?

Lyu et al., "Memorize, Factorize, or be Naïve: Learning Optimal Feature Interaction Methods for CTR Prediction", ICDE
2022. Of a pair of categorical fields i and j the towers read, beside the fields themselves,

    memorised    a row of a table of the pair's own, by the values of both
    factorised   ẽ_i ⊙ ẽ_j, embeddings brought to one size
    naive        nothing

A memorised pair needs no column of its own: its row follows from the two indices that are inputs already. Row 0 stands
for every pair of which a value is missing or unknown; it is zero and never learns. While all pairs of known values fit
into `cross_rows`, each has a row, else a hash of both says which, and some share one. A table starts at zero, so that a
pair that training never held says nothing.

Unlike in the paper a product is one of the fields' own embeddings, not of a second set of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.embedding.hashed import FACTORS, PRIME
from components.rankers.interactions.config import OptInterConfig, Pair
from components.rankers.parts import FieldVectors, Interaction
from components.rankers.refusals import no_pair
from components.rankers.sequences.attention import of_size_one
from features.declaration import FIRST, FieldSpec

NOTHING = 0
"""Row of a pair of which a value is missing or unknown."""
_STRIDE = 1_000_003
"""Prime by which the first index is multiplied before both are hashed."""
_FRESH = 3.0
"""Times a fresh vector's size, as in `dcnv2`: two fresh vectors make a product of a ninth of its final size."""


class CrossTable(nn.Module):
    """Rows of all memorised pairs, one block each, as one table.

    Args:
        sizes: by pair, the rows of the tables of its two fields.
        width: d.
        most: rows of a block at most.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], width: int, most: int) -> None:
        super().__init__()
        known = [max(0, first - FIRST) * max(0, second - FIRST) for first, second in sizes]
        rows = [1 + min(count, most - 1) for count in known]
        self.exact = tuple(count < most for count in known)
        self.second = tuple(second - FIRST for _, second in sizes)
        self.rows = tuple(rows)
        self.offsets = tuple(sum(rows[:at]) for at in range(len(rows)))
        self.weight = nn.Parameter(torch.zeros(sum(rows), width))

    def places(self, pair: int, first: Tensor, second: Tensor) -> Tensor:
        """Return int64 ``[B]``, the rows of a pair within its block.

        Args:
            pair: its number.
            first: int64 ``[B]``, index of the first field.
            second: int64 ``[B]``, index of the second field.
        """
        if self.exact[pair]:
            place = (first - FIRST) * self.second[pair] + (second - FIRST)
        else:
            a, b, c = FACTORS[0]
            x = (first * _STRIDE + second) % PRIME
            place = ((a * x + b) % PRIME * x + c) % PRIME % (self.rows[pair] - 1)
        known = (first >= FIRST) & (second >= FIRST)
        return torch.where(known, place + 1, NOTHING)

    def forward(self, values: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return float32 ``[B, P, d]`` of the indices of both fields by pair; zero where one of them is not known."""
        places = torch.stack([self.places(pair, *both) for pair, both in enumerate(values)], dim=1)
        starts = torch.tensor(self.offsets, device=places.device)
        found = functional.embedding(places + starts, self.weight)
        return found * (places != NOTHING).to(found.dtype).unsqueeze(2)


class OptInter(Interaction):
    """Fields side by side, then a row of each memorised pair, then the product of each factorised one.

    Raises:
        BadInputError: a pair names what is no categorical field.
    """

    knows_fields = True
    least: Tensor

    def __init__(
        self, fields: int, width: int, extra: int, config: OptInterConfig, specs: Sequence[FieldSpec] = ()
    ) -> None:
        super().__init__()
        self.sizes = {field.name: field.size for field in specs}
        self.place = {name: at for at, name in enumerate(self.sizes)}
        for name in (name for pair in (*config.memorise, *config.factorise) for name in pair):
            if name not in self.sizes:
                raise BadInputError(no_pair(name, self.sizes))
        self.memorised, self.factorised = config.memorise, config.factorise
        # Kept beside the weights, so that those of another formula do not load.
        self.register_buffer("least", torch.tensor(_FRESH * config.start))
        if self.memorised:
            sizes = [(self.sizes[one], self.sizes[other]) for one, other in self.memorised]
            self.embedding = CrossTable(sizes, width, config.cross_rows)
        self.out_features = (fields + len(self.memorised) + len(self.factorised)) * width + extra

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, (F + P)·d + N]``."""
        parts = [fields.side_by_side()]
        if self.memorised:
            parts.append(self.remembered(fields).flatten(start_dim=1))
        if self.factorised:
            parts.append(self.products(fields, self.factorised).flatten(start_dim=1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def remembered(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, P, d]``, the rows of the memorised pairs."""
        found: Tensor = self.embedding([(fields.ids[one], fields.ids[other]) for one, other in self.memorised])
        return found

    def products(self, fields: FieldVectors, pairs: Sequence[Pair]) -> Tensor:
        """Return float32 ``[B, P, d]``, products of the embeddings of two fields."""
        sized = of_size_one(fields.vectors[:, : len(self.place)], self.least)
        return torch.stack([sized[:, self.place[one]] * sized[:, self.place[other]] for one, other in pairs], dim=1)
