"""AutoInt: which fields should be combined, as the row itself decides?

Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019:
every field, a number too, is an embedding, and interacting layers let fields attend to each other.

Here queries and keys read fields divided by their root mean square, and their products are scaled by 1/√d. Embeddings
start near zero, where products of two of them leave the softmax flat for longer than most trainings last; values and
the residual read the fields as they are, and a vector as small as a fresh one asks less: rare values stay quiet.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from components.rankers.interactions.config import AutoIntConfig
from components.rankers.parts import FieldVectors, Interaction
from components.rankers.sequences.attention import of_size_one


class InteractingLayer(nn.Module):
    """Attention among fields, ``ReLU(concat_h softmax(q kᵀ / √w) v + W_res e)``; q, k of fields of one size."""

    def __init__(self, in_features: int, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.query = nn.Linear(in_features, heads * width, bias=False)
        self.key = nn.Linear(in_features, heads * width, bias=False)
        self.value = nn.Linear(in_features, heads * width, bias=False)
        self.residual = nn.Linear(in_features, heads * width, bias=False)
        for linear in (self.query, self.key, self.value, self.residual):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, e: Tensor, sized: Tensor) -> Tensor:
        """Return float32 ``[B, F, heads · width]``.

        Args:
            e: float32 ``[B, F, in_features]``, the fields.
            sized: float32 ``[B, F, in_features]``, the fields brought to one size: what attention is decided by.
        """
        attended = self.dropout(self.weights(sized)) @ self._split(self.value(e))
        return torch.relu(attended.transpose(1, 2).flatten(start_dim=2) + self.residual(e))

    def weights(self, sized: Tensor) -> Tensor:
        """Return float32 ``[B, heads, F, F]``, how much the field of a row attends to that of a column; rows add to 1.

        Args:
            sized: as of `forward`.
        """
        query, key = (self._split(linear(sized)) for linear in (self.query, self.key))
        return torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), dim=3)

    def _split(self, x: Tensor) -> Tensor:
        """Return ``[B, heads, F, width]`` of ``[B, F, heads · width]``."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class AutoInt(Interaction):
    """`layers` interacting layers over the fields; a number x is the field ``x · v`` with a learned v.

    Of a number, v is what is brought to size one: twice the number asks twice as loudly, and at 0 it is silent.

    The towers read the fields after attention next to the raw ones: the joint network that the paper
    calls AutoInt+, except that the two halves meet before the deep layers.
    """

    attends: ClassVar[bool] = True
    least: Tensor

    def __init__(self, fields: int, width: int, extra: int, config: AutoIntConfig) -> None:
        super().__init__()
        self.fields = fields
        heads = config.heads
        std = config.start
        # Kept beside the weights, so that those of another formula do not load.
        self.register_buffer("least", torch.tensor(std))
        slopes = torch.randn(extra, width) * std
        self.slopes = nn.Parameter(slopes) if extra else None
        head = config.attention_width or width
        widths = [width, *[heads * head] * config.layers]
        self.layers = nn.ModuleList(
            InteractingLayer(narrow, head, heads, config.attention_dropout) for narrow in widths[:-1]
        )
        self.out_features = (fields + extra) * widths[-1] + fields * width + extra

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, (F + N)·heads·w + F·d + N]``: after attention, then raw."""
        e, by = self._tokens(fields)
        for layer in self.layers:
            e = layer(e, by)
            by = of_size_one(e, self.least)
        return torch.cat([e.flatten(start_dim=1), fields.side_by_side()], dim=1)

    def attention(self, fields: FieldVectors) -> tuple[Tensor, ...]:
        """Return float32 ``[B, heads, F + N, F + N]`` per layer; see `Interaction.attention`."""
        e, by = self._tokens(fields)
        maps = []
        for layer in self.layers:
            maps.append(cast(InteractingLayer, layer).weights(by))
            e = layer(e, by)
            by = of_size_one(e, self.least)
        return tuple(maps)

    def _tokens(self, fields: FieldVectors) -> tuple[Tensor, Tensor]:
        """Return the fields and the numbers, float32 ``[B, F + N, d]``, and the same brought to one size."""
        tokens = [fields.vectors] if self.fields else []
        sized = [of_size_one(fields.vectors, self.least)] if self.fields else []
        if self.slopes is not None:
            numbers = fields.extra.unsqueeze(2)
            tokens.append(numbers * self.slopes)
            sized.append(numbers * of_size_one(self.slopes, self.least))
        return torch.cat(tokens, dim=1), torch.cat(sized, dim=1)
