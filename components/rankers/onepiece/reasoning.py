"""How does a candidate think again about a context that it has read? Blocks of latent tokens behind a transformer.

Dai et al., "OnePiece: Bringing Context Engineering and Reasoning to Industrial Cascade Ranking System", 2025, §3:

    H = F(I),  B_1 = the candidate's row of H;    step k:  B̃_k = B_k + e_k,  B_{k+1} = last row of F([I; B̃_1 … B̃_k])

The context reads itself only, so what it answers in a layer is the same in every step and is computed once: a step
costs one token, however long the history is. Steps read the context, earlier steps and themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.rankers.sequences.attention import AttentionLayer

_NEVER = -1e30
"""Score of what must not be read: finite, so that no row has a NaN."""


@dataclass(frozen=True)
class Known:
    """What a layer has been read by so far."""

    keys: Tensor
    """float32 ``[B, H, T, d_h]``."""
    values: Tensor
    """float32 ``[B, H, T, d_h]``."""

    def and_also(self, other: Known) -> Known:
        """Return both, one after the other."""
        return Known(torch.cat([self.keys, other.keys], dim=2), torch.cat([self.values, other.values], dim=2))


class Layer(AttentionLayer):
    """``x + attention(norm(x))``, then ``x + feed-forward(norm(x))``; a head is ⌈d / heads⌉ wide."""

    def forward(self, x: Tensor, known: Known | None, closed: Tensor) -> tuple[Tensor, Known]:
        """Return tokens after this layer, and what it is read by from now on.

        Args:
            x: float32 ``[B, S, d]``.
            known: what they read beside themselves; None reads themselves alone.
            closed: float32 ``[B, 1, 1, T]``, 0 for a token that may be read, else −1e30, of all that is read.
        """
        normed = self.before_attention(x)
        own = Known(self.split(self.key(normed)), self.split(self.value(normed)))
        read = own if known is None else known.and_also(own)
        scores = (self.split(self.query(normed)) / math.sqrt(self.narrow)) @ read.keys.transpose(2, 3)
        answer = torch.softmax(scores + closed, dim=3) @ read.values
        return self.finish(x, answer), read


class Reasoner(nn.Module):
    """A transformer over tokens of which the last is the candidate, and its steps.

    Answers start at size `scale`: a vector of size 1 would drown the other fields at the start.
    """

    def __init__(
        self, width: int, layers: int, heads: int, steps: int, *, dropout: float, std: float, scale: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.steps = nn.Parameter(torch.randn(steps, width) * std) if steps else None
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, tokens: Tensor, there: Tensor) -> list[Tensor]:
        """Return what the candidate knows after the first reading and after each step, float32 ``[B, d]`` each.

        Args:
            tokens: float32 ``[B, T, d]``, the candidate last.
            there: float32 ``[B, T]``, 1 for a token that exists; the candidate does.
        """
        closed = ((1.0 - there) * _NEVER)[:, None, None]
        known: list[Known] = []
        x = tokens
        for layer in self.layers:
            x, read = layer(x, None, closed)
            known.append(read)
        block = x[:, -1:]
        answers = [block]
        for step in self.steps if self.steps is not None else ():
            block = block + step
            closed = nn.functional.pad(closed, (0, 1))
            for at, layer in enumerate(self.layers):
                block, known[at] = layer(block, known[at], closed)
            answers.append(block)
        return [self.norm(answer[:, 0]) for answer in answers]
