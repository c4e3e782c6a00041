"""How do indices become vectors? One fused table, one gather for all fields, a zero row for padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.errors import BadInputError
from components.rankers.config import RankerConfig
from features.declaration import PADDING, FieldSpec


@dataclass(frozen=True)
class EmbeddedFields:
    """The inputs of a batch of B rows as vectors of width d; fields keep the order of the schema.

    Attributes:
        categorical: by field, float32 ``[B, d]``.
        sequences: by field, float32 ``[B, L, d]``; positions that hold padding are zero.
        masks: by sequence field, float32 ``[B, L]``: 1 where there is an event, 0 where there is padding.
        numeric: by field, float32 ``[B, n]``: n is 1 for a number, the width for a vector.
        elapsed: by field, float32 ``[B, L]`` seconds from an event to the request, below 0 where none is visible.
    """

    categorical: dict[str, Tensor]
    sequences: dict[str, Tensor]
    masks: dict[str, Tensor]
    numeric: dict[str, Tensor]
    elapsed: dict[str, Tensor]


class FieldEmbedding(nn.Module):
    """The embedding tables of all fields, kept as one.

    Each table is a block of rows of the fused table, starting at its offset. Row 0 of a block stands
    for padding and missing values: it is multiplied by zero, so it neither contributes nor learns.

    Args:
        fields: inputs of the ranker.
        width: d, width of every vector.
        std: standard deviation of the initial weights; 0 starts at zero.
        shared: whether fields that name the same table share its rows.

    Raises:
        BadInputError: fields that share a table disagree about its size.
    """

    def __init__(self, fields: Sequence[FieldSpec], width: int, std: float = 0.01, shared: bool = True) -> None:
        super().__init__()
        rows = self.lay_out(fields, width, shared)
        weight = torch.randn(rows, width) * std
        weight[sorted(set(self.offsets.values()))] = 0.0
        self.weight = nn.Parameter(weight)

    @classmethod
    def of(cls, fields: Sequence[FieldSpec], config: RankerConfig) -> FieldEmbedding:
        """Return a new embedding of the completed config: `embedding_width`, `embedding_std`."""
        return cls(fields, int(config.embedding_width or 0), float(config.embedding_std or 0.0))

    def lay_out(self, fields: Sequence[FieldSpec], width: int, shared: bool) -> int:
        """Give every table its place among the rows of all tables, and return how many rows that are."""
        self.width = width
        self.numeric = {f.name: max(f.length, 1) for f in fields if f.kind in ("numeric", "vector")}
        self.elapsed = tuple(f.name for f in fields if f.kind == "elapsed")
        self.embedded = tuple(f for f in fields if f.embedded)
        self.offsets, rows = _offsets(self.embedded, shared)
        return rows

    def look_up(self, rows: Tensor) -> Tensor:
        """Return float32 ``[..., d]``, the vectors of int64 ``[...]`` row numbers."""
        return functional.embedding(rows, self.weight)

    def forward(self, batch: dict[str, Tensor]) -> EmbeddedFields:
        """Return every field of `batch` as vectors.

        Args:
            batch: int64 ``[B]`` per categorical, int64 ``[B, L]`` per sequence (L may be 0 and may
                differ between fields), float32 ``[B]`` per number, ``[B, n]`` per vector, ``[B, L]`` per
                elapsed field.
        """
        numeric = {name: batch[name].reshape(-1, width) for name, width in self.numeric.items()}
        elapsed = {name: batch[name] for name in self.elapsed}
        if not self.embedded:
            return EmbeddedFields({}, {}, {}, numeric, elapsed)
        # One column per value: [B, 1] of a categorical, [B, L] of a sequence.
        columns = [batch[f.name] if f.kind == "sequence" else batch[f.name].unsqueeze(1) for f in self.embedded]
        rows = [ids + self.offsets[f.name] for f, ids in zip(self.embedded, columns, strict=True)]
        present = [(ids != PADDING).to(self.weight.dtype) for ids in columns]
        vectors = self.look_up(torch.cat(rows, dim=1))
        vectors = vectors * torch.cat(present, dim=1).unsqueeze(2)
        parts = torch.split(vectors, [ids.shape[1] for ids in columns], dim=1)
        categorical: dict[str, Tensor] = {}
        sequences: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        for field, part, mask in zip(self.embedded, parts, present, strict=True):
            if field.kind == "sequence":
                sequences[field.name], masks[field.name] = part, mask
            else:
                categorical[field.name] = part.squeeze(1)
        return EmbeddedFields(categorical, sequences, masks, numeric, elapsed)


def _offsets(fields: Sequence[FieldSpec], shared: bool) -> tuple[dict[str, int], int]:
    """Return the first row of each field's table, and the rows of all tables together."""
    first: dict[str, int] = {}
    owner: dict[str, FieldSpec] = {}
    rows = 0
    for field in fields:
        table = field.table if shared and field.table else field.name
        if table not in owner:
            owner[table], first[table] = field, rows
            rows += field.size
        elif owner[table].size != field.size:
            raise BadInputError(
                f"fields {owner[table].name!r} and {field.name!r} share the table {table!r} but have "
                f"{owner[table].size} and {field.size} rows: build the training set again"
            )
    return {f.name: first[f.table if shared and f.table else f.name] for f in fields}, rows
