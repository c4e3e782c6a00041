"""What if text, images or another model say something of a value? Its frozen vector is projected, beside its own row.

Sheng et al., "Language Representations Can be What Recommenders Need", ICLR 2025 (AlphaRec), where a linear map of
frozen vectors of titles takes the place of ids. Here a value is ``e = row + s · t W``: what training remembers of it,
and what its vector t says, which also speaks for values that training never held. Only W and s learn.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.embedding.config import FrozenConfig
from components.rankers.embedding.content import ValueVectors
from components.rankers.embedding.table import FieldEmbedding
from components.rankers.refusals import no_vectors
from features.declaration import FIRST, FieldSpec


class FrozenVectors(ValueVectors):
    """The vectors of one table's values, and the map that brings them to the width of the embedding.

    Args:
        field: one of the table's fields.
        first: row of the fused table where the table begins.
        width: d.
        scale: factor at the start.
    """

    held = ("vectors", "learned")
    vectors: Tensor
    """float32 ``[V, D]``; rows of padding, of unknown values, and of values without a vector are zero."""
    learned: Tensor
    """float32 ``[V]``, 0 for a value that training never held, whose own row says nothing."""

    def __init__(self, field: FieldSpec, first: int, width: int, scale: float) -> None:
        super().__init__(field)
        self.first = first
        self.register_buffer("vectors", torch.zeros(field.size, field.content))
        self.register_buffer("learned", torch.ones(field.size))
        # Of a generator of its own, so that all other weights are those that a ranker without vectors draws.
        own = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        drawn = torch.randn(field.content, width, generator=own) / math.sqrt(field.content)
        self.weight = nn.Parameter(drawn)
        self.scale = nn.Parameter(torch.tensor(scale))

    def take(self, vectors: Tensor, learned: Tensor) -> None:
        """Hold the vectors of a training set; see `ValueVectors.take`."""
        self.vectors.copy_(vectors)
        self.learned.copy_(learned)

    def places(self, rows: Tensor) -> Tensor:
        """Return int64 ``[...]``, the table's own numbers of fused row numbers; padding where they are of others."""
        at = rows - self.first
        return torch.where((at >= 0) & (at < self.size), at, 0)

    def forward(self, at: Tensor) -> Tensor:
        """Return float32 ``[..., d]``, the projected vectors of the table's numbers int64 ``[...]``."""
        if torch.compiler.is_exporting():  # no graph has as many rows as there are different numbers
            return self._projected(at)
        distinct, place = torch.unique(at, return_inverse=True)  # a batch holds most items many times
        return nn.functional.embedding(place, self._projected(distinct))

    def _projected(self, at: Tensor) -> Tensor:
        taken = nn.functional.embedding(at, self.vectors)
        return (taken @ self.weight).to(self.weight.dtype) * self.scale


class FrozenEmbedding(FieldEmbedding):
    """Embedding tables of which some add what frozen vectors say of their values.

    Where `projection` is 0 it is a `FieldEmbedding` to the last bit.

    Raises:
        BadInputError: no field has vectors, or fields that share a table disagree about its size.
    """

    def __init__(self, fields: Sequence[FieldSpec], width: int, std: float, config: FrozenConfig) -> None:
        super().__init__(fields, width, std)
        given = {field.table: field for field in self.embedded if field.content}
        if not given:
            raise BadInputError(no_vectors("embedding 'frozen'", "embedding 'vocabulary'"))
        self.ids, self.ids_dropped = config.ids, config.ids_dropped
        self.content = nn.ModuleList(
            FrozenVectors(field, self.offsets[field.name], width, config.projection)
            for field in (given.values() if config.projection else ())
        )

    @classmethod
    def of(  # type: ignore[override]  # each gets the options of its own config
        cls, fields: Sequence[FieldSpec], config: FrozenConfig
    ) -> FrozenEmbedding:
        """Return a new embedding of a config."""
        return cls(fields, config.embedding_width, config.embedding_std, config)

    def look_up(self, rows: Tensor) -> Tensor:
        """Return rows and projected vectors, added up; see `FieldEmbedding.look_up`."""
        vectors = super().look_up(rows)
        for table in self._tables():
            at = table.places(rows)
            counts = self._remembered(table, at)
            if self.training and self.ids_dropped:
                counts = counts * ((torch.rand(at.shape, device=at.device) >= self.ids_dropped) | (at < FIRST))
            vectors = vectors * counts.unsqueeze(-1) + table(at)
        return vectors

    def _remembered(self, table: FrozenVectors, at: Tensor) -> Tensor:
        """Return float32 ``[...]``: 1 where a value's own row counts."""
        counts = table.learned.index_select(0, at.reshape(-1)).view(at.shape)
        return counts if self.ids else counts * (at < FIRST)

    def _tables(self) -> list[FrozenVectors]:
        return [table for table in self.content if isinstance(table, FrozenVectors)]

    @torch.no_grad()
    def folded(self) -> FieldEmbedding:
        """Return one table of what every row is after projection: what is served reads neither vectors nor the map."""
        plain = FieldEmbedding.__new__(FieldEmbedding)
        nn.Module.__init__(plain)  # not its own, which would draw a table
        plain.width, plain.numeric, plain.elapsed = self.width, self.numeric, self.elapsed
        plain.embedded, plain.offsets = self.embedded, self.offsets
        whole = self.weight.detach().clone()
        for table in self._tables():
            at = torch.arange(table.size, device=whole.device)
            block = whole[table.first : table.first + table.size]
            block.mul_(self._remembered(table, at).unsqueeze(1)).add_(table(at))
        plain.weight = nn.Parameter(whole)
        return plain.train(self.training)


def folded(ranker: RankerModule) -> RankerModule:
    """Return a ranker that answers the same from one embedding table; itself where nothing is projected."""
    embedding = getattr(ranker, "embedding", None)
    if not isinstance(embedding, FrozenEmbedding):
        return ranker
    plain = copy.copy(ranker)
    plain._modules = {**ranker._modules, "embedding": embedding.folded()}
    return plain
