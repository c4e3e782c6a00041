"""SDIM: which of thousands of events fall into the candidate's buckets?

Cao et al., "Sampling Is All You Need on Modeling Long-Term User Behaviors for CTR Prediction", CIKM 2022: m hashes of
one bit form m/τ signatures of τ bits; an event counts in a signature when all of its bits are the candidate's, and

    output = mean_g ℓ2( Σ_j [signature g of s_j = that of q] · s_j ),    E[weight of s_j] = (1 − angle(q, s_j)/π)^τ

where ℓ2 divides by the norm. Collisions are the attention: no event is compared with the candidate beyond its bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.embedding.events import Events, JoinedEvents
from components.rankers.parts import SequenceEncoder
from components.rankers.sequences.config import SdimConfig
from components.rankers.sequences.hashing import bits, directions
from components.rankers.sequences.mean import masked_mean

_MOST_BUCKETS = 16
"""Buckets of a signature that are filled for a request: as much work as comparing as many candidates with events."""


class SdimSequence(SequenceEncoder):
    """Mean over signatures of the direction of what collides with the candidate.

    The answer has length 1 at most, which would drown the other fields at the start, so it is scaled by a learned gain
    that starts as large as an embedding. Values without a vector (unknown, missing) collide with nothing. A history
    that shares no table with a candidate is the mean of its events. Only the events' vectors learn through it; the
    candidate's bits have no gradient.
    """

    along: Tensor
    worth: Tensor

    def __init__(self, width: int, length: int, config: SdimConfig, targeted: bool = True) -> None:
        super().__init__()
        self.out_features = width
        self.buckets = 2**config.signature
        self.register_buffer("along", directions(width, config.hashes))
        # A signature as one whole number: what its bits are worth.
        worth = 2.0 ** torch.arange(config.signature)
        self.register_buffer("worth", torch.block_diag(*worth.expand(config.hashes // config.signature, 1, -1)).t())
        self.gain = nn.Parameter(torch.full((width,), config.start * math.sqrt(width))) if targeted else None

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return float32 ``[B, d]``, zero where nothing collides; see `SequenceEncoder.forward`."""
        if target is None or self.gain is None:
            return masked_mean(vectors, mask)
        # One more place: a product over an empty history is not defined in every runtime.
        vectors, mask = functional.pad(vectors, (0, 0, 0, 1)), functional.pad(mask, (0, 1))
        meets = self._signatures(vectors) == self._signatures(target).unsqueeze(1)
        meets = meets * (mask * _known(vectors)).unsqueeze(2)
        return self._mean(torch.einsum("blg,bld->bgd", meets, vectors), target) * self.gain

    def of_events(self, events: Events | JoinedEvents, target: Tensor | None, **times: Tensor) -> Tensor:
        """Return float32 ``[B, d]``; see `SequenceEncoder.of_events`."""
        if target is None or self.gain is None:
            return events.mean()
        vectors, at = events.vectors, events.at
        meets = self._signatures(vectors) == at.spread(self._signatures(target))
        meets = meets * (events.present * _known(vectors)).unsqueeze(1)
        sums = [at.sums(meets[:, g : g + 1] * vectors) for g in range(meets.shape[1])]
        return self._mean(torch.stack(sums, dim=1), target) * self.gain

    def of_request(self, vectors: Tensor, mask: Tensor, target: Tensor, **times: Tensor) -> Tensor:
        """Return float32 ``[N, d]``; events fall into buckets once, where signatures are short, and candidates look up.

        A long signature has more buckets than it is worth to fill; its events are hashed once.
        """
        if self.gain is None:
            return super().of_request(vectors, mask, target, **times)
        vectors, mask = functional.pad(vectors, (0, 0, 0, 1)), functional.pad(mask, (0, 1))
        signed, asked = self._signatures(vectors), self._signatures(target)
        there = (mask * _known(vectors)).unsqueeze(2)
        if self.buckets > _MOST_BUCKETS:
            meets = (signed == asked.unsqueeze(1)) * there
            return self._mean(torch.einsum("nlg,ld->ngd", meets, vectors[0]), target) * self.gain
        values = torch.arange(self.buckets, device=vectors.device, dtype=signed.dtype)
        held = (signed.unsqueeze(3) == values) * there.unsqueeze(3)  # [1, L, G, V]
        sums = torch.einsum("lgv,ld->gvd", held[0], vectors[0])
        first = torch.arange(sums.shape[0], device=vectors.device) * self.buckets
        found = functional.embedding(asked.long() + first, functional.normalize(sums, dim=2).flatten(end_dim=1))
        return found.mean(dim=1) * _known(target).unsqueeze(1) * self.gain

    def _signatures(self, vectors: Tensor) -> Tensor:
        """Return whole numbers, float32 ``[..., G]``: equal where all bits of a signature are."""
        return bits(vectors, self.along).to(self.worth.dtype) @ self.worth

    def _mean(self, sums: Tensor, target: Tensor) -> Tensor:
        """Return the mean direction, given what collides in each signature, float32 ``[B, G, d]``."""
        return functional.normalize(sums, dim=2).mean(dim=1) * _known(target).unsqueeze(1)


def _known(vectors: Tensor) -> Tensor:
    """Return float32 ``[...]``, 0 for a vector that is zero; by a sum, which graphs give of an empty history too."""
    return (vectors != 0).to(vectors.dtype).sum(dim=-1).clamp(max=1.0)
