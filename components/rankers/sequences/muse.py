"""MUSE: which of thousands of events show what the candidate shows, and how much does each count?

Wu et al., "MUSE", 2025 (arXiv 2512.07216). Ids of rare items are badly trained, so a search by ids misses them; vectors
of content are there from the first day. With R the cosines of the `keep` events most like the candidate:

    h = Σ_n log(1 + how many of R lie in tier n) · w_n                        twenty tiers of a tenth, and one of −1
    α = γ₁ a + γ₂ R/τ + γ₃ a R/τ,    a = silu(W_q t + b) · silu(W_k e + b)
    u = softmax(α)ᵀ silu(W_v e + b)

and the answer is h beside u: how many events are how alike, and what those are. γ and τ are learned, from 1 and 0.1. It
is the authors' code, in which products are not divided by √d, but for padding, which has a weight there.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.embedding.content import APART, ContentVectors
from components.rankers.parts import SequenceEncoder
from components.rankers.sequences.attention import masked_softmax
from components.rankers.sequences.config import MuseConfig
from components.rankers.sequences.mean import masked_mean
from components.rankers.sequences.search import best
from features.declaration import FieldSpec

_TENTHS = 10
"""Tiers from a cosine of 0 to 1."""
_DIGITS = 2.0**20
"""Steps of a cosine that the search tells apart."""
_BIAS = 0.1
_TEMPERATURE = 0.1


class MuseSequence(SequenceEncoder):
    """Tiers and attention over what a search by content keeps; two vectors.

    An event without a vector is kept after all that have one, lies in no tier, and is attended to by its id. A history
    that shares no table with a candidate, or has no vectors, is the mean of its events.
    """

    reads_content: ClassVar[bool] = True

    def __init__(
        self, width: int, length: int, config: MuseConfig, targeted: bool = True, content: FieldSpec | None = None
    ) -> None:
        super().__init__()
        self.keep = config.keep
        self.content = ContentVectors(content) if content is not None and targeted else None
        self.out_features = width if self.content is None else 2 * width
        if self.content is None:
            return
        self.tiers = nn.Parameter(torch.randn(2 * _TENTHS + 1, width) * config.start)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        for projection in (self.query, self.key, self.value):
            nn.init.constant_(projection.bias, _BIAS)
        self.mixed = nn.Parameter(torch.ones(3))
        self.sharpness = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None, alike: Tensor | None = None) -> Tensor:
        """Return float32 ``[B, 2d]``; see `SequenceEncoder.forward`."""
        if self.content is None or target is None or alike is None:
            return masked_mean(vectors, mask)
        kept = best((alike * _DIGITS).round().long(), mask, self.keep)
        taken = vectors.gather(1, kept.unsqueeze(2).expand(-1, -1, vectors.shape[2]))
        there, alike = mask.gather(1, kept), alike.gather(1, kept)
        known = there * (alike > APART)
        return torch.cat([self.attended(taken, there, target, alike * known), self.told(alike, known)], dim=1)

    def of_request(self, vectors: Tensor, mask: Tensor, target: Tensor, **times: Tensor) -> Tensor:
        """Return float32 ``[N, 2d]``; keys and values of events are made once, and taken for each candidate."""
        if self.content is None or "alike" not in times:
            return super().of_request(vectors, mask, target, **times)
        alike = times["alike"]
        kept = best((alike * _DIGITS).round().long(), mask, self.keep)
        there, alike = mask[0][kept], alike.gather(1, kept)
        known = there * (alike > APART)
        keys, values = (of_events[0][kept] for of_events in self._read(vectors))
        attended = self._answered(keys, values, there, target, alike * known)
        return torch.cat([attended, self.told(alike, known)], dim=1)

    def told(self, alike: Tensor, known: Tensor) -> Tensor:
        """Return h, float32 ``[B, d]``, of cosines ``[B, L]`` where they are known."""
        at = (alike * _TENTHS).ceil().clamp(-_TENTHS, _TENTHS).unsqueeze(2)
        tiers = torch.arange(-_TENTHS, _TENTHS + 1, device=alike.device, dtype=alike.dtype)
        counts = ((at == tiers) * known.unsqueeze(2)).sum(dim=1)
        told: Tensor = torch.log1p(counts) @ self.tiers
        return told

    def attended(self, events: Tensor, there: Tensor, target: Tensor, alike: Tensor) -> Tensor:
        """Return u, float32 ``[B, d]``, of events ``[B, L, d]`` where there are some, with their cosines ``[B, L]``."""
        return self._answered(*self._read(events), there, target, alike)

    def _read(self, events: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, float32 ``[..., d]``, of events."""
        return functional.silu(self.key(events)), functional.silu(self.value(events))

    def _answered(self, keys: Tensor, values: Tensor, there: Tensor, target: Tensor, alike: Tensor) -> Tensor:
        asked = functional.silu(self.query(target)).unsqueeze(1)
        by_id = (keys * asked).sum(dim=2)
        by_content = alike * self.sharpness.exp()
        scores = self.mixed[0] * by_id + self.mixed[1] * by_content + self.mixed[2] * by_id * by_content
        return (masked_softmax(scores, there).unsqueeze(2) * values).sum(dim=1)
