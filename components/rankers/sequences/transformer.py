"""How does a history become one vector when its events may also read each other?

A causal transformer whose last token is the candidate: self-attention over positions as in Kang and McAuley,
"Self-Attentive Sequential Recommendation", ICDM 2018; the candidate as last token as in Chen et al.,
"Behavior Sequence Transformer", DLP-KDD 2019; layer normalisation before each sub-layer as in Xiong et al.,
"On Layer Normalization in the Transformer Architecture", ICML 2020.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.parts import SequenceEncoder
from components.rankers.sequences.attention import AttentionLayer, masked_softmax, summed_for_each
from components.rankers.sequences.config import TransformerConfig


class Block(AttentionLayer):
    """One layer of the transformer; each token reads those that it is allowed to."""

    def forward(self, x: Tensor, allowed: Tensor, last: bool) -> Tensor:
        """Return the tokens after this block.

        Args:
            x: float32 ``[B, S, d]``.
            allowed: float32 ``[B, S, S]``: 1 where the token of the row may read the token of the column.
            last: whether only the first token's answer is needed.

        Returns:
            float32 ``[B, S, d]``, or ``[B, 1, d]`` of the last block.
        """
        normed = self.before_attention(x)
        if last:
            x, asking, allowed = x[:, :1], normed[:, :1], allowed[:, :1]
        else:
            asking = normed
        query, key, value = (
            self.split(self.query(asking)),
            self.split(self.key(normed)),
            self.split(self.value(normed)),
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(self.narrow)
        return self.finish(x, masked_softmax(scores, allowed.unsqueeze(1)) @ value)

    def of_candidates(self, x: Tensor, events: Tensor, allowed: Tensor) -> Tensor:
        """Return the tokens of N candidates, float32 ``[N, 1, d]``, after each has read itself and the same events.

        Args:
            x: float32 ``[N, 1, d]``.
            events: float32 ``[1, L, d]``, their tokens before this block.
            allowed: float32 ``[1, L + 1]``: 1 for the candidate, and for each event that exists.
        """
        mine, others = self.before_attention(x), self.before_attention(events)
        query = self.split(self.query(mine))
        own, keys = self.split(self.key(mine)), self.split(self.key(others))
        scores = torch.cat([(query * own).sum(dim=3, keepdim=True), query @ keys.transpose(2, 3)], dim=3)
        weights = masked_softmax(scores / math.sqrt(self.narrow), allowed)
        read = weights[..., :1] * self.split(self.value(mine))
        return self.finish(x, read + summed_for_each(weights[..., 1:], self.split(self.value(others))))


class TransformerSequence(SequenceEncoder):
    """Pre-norm causal transformer; the output is the candidate's token, normalised.

    Tokens are ordered as the tensors are, candidate first and oldest event last, and a token reads only itself
    and tokens behind it: no event sees a later one or the candidate. Positions are learned by recency:
    candidate 0, most recent event 1; events beyond the longest history share the last position. A history that
    shares no table with a candidate is read by position 0 alone: a learned query vector.
    """

    def __init__(self, width: int, length: int, config: TransformerConfig, targeted: bool = True) -> None:
        super().__init__()
        self.out_features = width
        self.length = length
        std = config.start
        self.positions = nn.Parameter(torch.randn(length + 1, width) * std)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        # As large as an embedding: a normalised vector of size 1 would drown the other fields at the start.
        nn.init.constant_(self.norm.weight, std)

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return float32 ``[B, d]``, zero where the history is empty; see `SequenceEncoder.forward`."""
        rows, length, width = vectors.shape
        candidate = vectors.new_zeros((rows, width)) if target is None else target
        ago = torch.arange(length + 1, device=vectors.device)
        x = torch.cat([candidate.unsqueeze(1), vectors], dim=1) + self.positions[ago.clamp(max=self.length)]
        present = torch.cat([mask.new_ones((rows, 1)), mask], dim=1)
        not_later = (ago.unsqueeze(0) >= ago.unsqueeze(1)).to(mask.dtype)
        allowed = present.unsqueeze(1) * not_later
        for i, block in enumerate(self.blocks, start=1):
            x = block(x, allowed, last=i == len(self.blocks))
        # A candidate that read no event would only repeat itself.
        known = mask.sum(dim=1, keepdim=True).clamp(max=1.0)
        return self.norm(x[:, 0]) * known

    def of_request(self, vectors: Tensor, mask: Tensor, target: Tensor, **times: Tensor) -> Tensor:
        """Return float32 ``[N, d]``: events, which read no candidate, go through the blocks once."""
        ago = torch.arange(vectors.shape[1] + 1, device=vectors.device)
        places = self.positions[ago.clamp(max=self.length)]
        x, events = (target + places[0]).unsqueeze(1), vectors + places[1:]
        not_later = (ago[1:].unsqueeze(0) >= ago[1:].unsqueeze(1)).to(mask.dtype)
        among, seen = mask.unsqueeze(1) * not_later, functional.pad(mask, (1, 0), value=1.0)
        for i, block in enumerate(self.blocks, start=1):
            x = cast(Block, block).of_candidates(x, events, seen)
            if i < len(self.blocks):
                events = block(events, among, last=False)
        return self.norm(x[:, 0]) * mask.sum(dim=1, keepdim=True).clamp(max=1.0)
