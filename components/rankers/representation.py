"""How do the inputs of a row become the one vector that towers read?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.embedding import FieldEmbedding
from components.rankers.sequence import MeanSequence
from features.declaration import RankerSchema


class Representation(nn.Module):
    """Embeddings, pooled histories and bags, and numbers, concatenated.

    Args:
        schema: inputs of the ranker.
        width: d, width of the embeddings.
        sequence: encoder of histories; unordered bags are always averaged.
    """

    def __init__(self, schema: RankerSchema, width: int, sequence: nn.Module) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(schema.fields, width)
        self.sequence = sequence
        self.bag = MeanSequence()
        self.pooled = frozenset(f.name for f in schema.fields if f.pooled)
        embedded = len(self.embedding.embedded)
        self.out_features = embedded * width + len(self.embedding.numeric)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return float32 ``[B, out_features]``."""
        fields = self.embedding(batch)
        parts = list(fields.categorical.values())
        for name, vectors in fields.sequences.items():
            encoder = self.bag if name in self.pooled else self.sequence
            parts.append(encoder(vectors, fields.masks[name]))
        parts += [values.unsqueeze(1) for values in fields.numeric.values()]
        return torch.cat(parts, dim=1)
