"""How alike are two values by the vectors that `attach_vectors` gave them? What holds such vectors, and their cosines.

Vectors are kept as whole numbers of one byte, so that products of thousands of numbers are exact in float32: the cosine
of an event with a candidate is the same in training and in a graph, and a search by it keeps the same events.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.declaration import FieldSpec

APART = -2.0
"""In place of the cosine where a value has no vector; below any."""
_STEPS = 127
_EXACT = 2**24
"""Whole numbers up to this are exact in float32."""
_AT_ONCE = 2**22
"""Numbers of vectors that are compared at a time, so that thousands of events do not take a float each at once."""


class ValueVectors(nn.Module, ABC):
    """Holds the vectors of one table's values in buffers; a new one holds zeros, as a ranker reads no files."""

    held: ClassVar[tuple[str, ...]]
    """Names of the buffers that `take` fills."""

    def __init__(self, field: FieldSpec) -> None:
        super().__init__()
        self.table, self.size, self.wide = str(field.table), field.size, field.content

    @abstractmethod
    def take(self, vectors: Tensor, learned: Tensor) -> None:
        """Hold the vectors of a training set.

        Args:
            vectors: float ``[V, D]``; rows of padding, of unknown values, and of values without a vector are zero.
            learned: ``[V]``, 0 for a value that training never held, else 1.
        """


class ContentVectors(ValueVectors):
    """Cosines between values of one table."""

    held = ("digits", "squares")
    digits: Tensor
    """int8 ``[V, D]``, each vector in steps of its largest number."""
    squares: Tensor
    """int32 ``[V, 1]``, the squared length of each; 0 where there is no vector."""

    def __init__(self, field: FieldSpec) -> None:
        super().__init__(field)
        self.register_buffer("digits", torch.zeros(field.size, field.content, dtype=torch.int8))
        self.register_buffer("squares", torch.zeros(field.size, 1, dtype=torch.int32))

    def take(self, vectors: Tensor, learned: Tensor) -> None:
        """Hold vectors in whole steps; see `ValueVectors.take`."""
        steps = min(_STEPS, math.isqrt(_EXACT // self.wide))
        largest = vectors.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        self.digits.copy_((vectors / largest * steps).round())
        self.squares.copy_(self.digits.int().square().sum(dim=1, keepdim=True))

    def forward(self, values: Tensor, others: Tensor) -> Tensor:
        """Return the cosines of values with others, float32 ``[...]``; `APART` where one has no vector.

        Args:
            values: int64 ``[...]``, the table's own numbers.
            others: int64 ``[...]``.
        """
        if torch.compiler.is_exporting():
            return self._cosines(values, others)
        some = max(1, _AT_ONCE // self.wide)
        pairs = zip(values.reshape(-1).split(some), others.reshape(-1).split(some), strict=True)
        return torch.cat([self._cosines(*pair) for pair in pairs]).view(values.shape)

    def for_each(self, values: Tensor, others: Tensor) -> Tensor:
        """Return the cosines of L values with each of N others, float32 ``[N, L]``, the same as `forward` to the bit.

        Args:
            values: int64 ``[L]``, the table's own numbers.
            others: int64 ``[N]``.
        """
        one, other = (functional.embedding(at, self.digits).float() for at in (values, others))
        lengths = [functional.embedding(at, self.squares).squeeze(-1).float() for at in (values, others)]
        squares = lengths[0] * lengths[1].unsqueeze(1)
        return torch.where(squares > 0, other @ one.t() * torch.rsqrt(squares.clamp(min=1.0)), APART)

    def _cosines(self, values: Tensor, others: Tensor) -> Tensor:
        one, other = (functional.embedding(at, self.digits).float() for at in (values, others))
        # Counted from the first: of an empty history onnxruntime sums over another axis than the last one.
        products = (one * other).sum(dim=values.dim())
        lengths = [functional.embedding(at, self.squares).squeeze(-1).float() for at in (values, others)]
        squares = lengths[0] * lengths[1]
        return torch.where(squares > 0, products * torch.rsqrt(squares.clamp(min=1.0)), APART)
