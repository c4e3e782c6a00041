"""SIM and ETA: which few of thousands of events are worth attention, and what do they say?

Two stages. The search keeps the `keep` events most like the candidate; then another encoder reads them as it would read
a short history. Pi et al., "Search-based User Interest Modeling with Lifelong Sequential Behavior Data" (SIM), CIKM
2020, search by an attribute that event and candidate share (their "hard" search), or (their "soft" search) by an inner
product that is learned,

    r_i = (W_b e_i) · (W_a e_a) / d,    and, for training alone,    U_r = Σ_i r_i e_i → tower → feedback

with e at size one, so that neither a fresh nor a frequent value counts for its length; Chen et al., "Efficient Long
Sequential User Data Modeling for Click-Through Rate Prediction", 2022 (ETA), by the number of bits in which hashes
differ. Among events that are equally alike the newest is kept, by whole numbers, so that training and graph keep the
same ones.

The search has no gradient: what is not kept does not learn in this row from what `attend` makes of it. Where the search
is soft, its own loss teaches W, and the vectors of all events.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError, did_you_mean
from components.rankers.config import Sizes
from components.rankers.parts import SequenceEncoder
from components.rankers.registration import load, registered
from components.rankers.sequences.attention import of_size_one
from components.rankers.sequences.config import SearchedConfig
from components.rankers.sequences.hashing import bits, directions
from components.rankers.sequences.search import best, product

_PLACES = 2**16
"""More than the events of any history."""
_MISSING = 255.0
"""Further from the candidate than any event; times the places, and a place more, it is exact in float32."""


class SearchedSequence(SequenceEncoder):
    """The best events of a search, read by the encoder `attend`.

    A history that shares no table with a candidate keeps its newest events. Events are handed on in their order, the
    most recent first; an encoder that counts positions counts those that are kept.
    """

    knows_fields: ClassVar[bool] = True
    along: Tensor

    def __init__(
        self, width: int, length: int, config: SearchedConfig, targeted: bool = True, fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.keep, self.search = config.keep, config.search
        self.compared = _attribute(config, fields, width)
        if config.search == "hash":
            self.register_buffer("along", directions(width, config.bits))
        self.relevance = Relevance(width) if config.search == "soft" and targeted else None
        if self.relevance is not None:
            self.auxiliary_features, self.auxiliary_weight = 3 * width, config.search_loss
        kind = registered("sequence")[config.attend]
        sizes: dict[str, Any] = {key: getattr(config, key) for key in Sizes.model_fields}
        self.attend: SequenceEncoder = load(kind)(width, min(config.keep, length), kind(**sizes), targeted=targeted)
        self.out_features = self.attend.out_features

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return float32 ``[B, out_features]``; see `SequenceEncoder.forward`."""
        kept = self.kept(vectors.detach(), mask, None if target is None else target.detach())
        taken = vectors.gather(1, kept.unsqueeze(2).expand(-1, -1, vectors.shape[2]))
        encoded: Tensor = self.attend(taken, mask.gather(1, kept), target)
        return encoded

    def of_request(self, vectors: Tensor, mask: Tensor, target: Tensor, **times: Tensor) -> Tensor:
        """Return float32 ``[N, out_features]``; events are hashed, or brought to one size, once."""
        kept = self.kept(vectors.detach(), mask, target.detach())
        encoded: Tensor = self.attend(vectors[0][kept], mask[0][kept], target)
        return encoded

    def auxiliary(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return float32 ``[B, 3d]``: U_r, the candidate, and their product; see `SequenceEncoder.auxiliary`."""
        if self.relevance is None or target is None:
            raise AssertionError("only a soft search for a candidate is taught")
        events, candidate = of_size_one(vectors), of_size_one(target)
        pooled = self.relevance.pooled(events, candidate, mask)
        return torch.cat([pooled, candidate, pooled * candidate], dim=1)

    def kept(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return int64 ``[B, min(keep, L)]``, ascending: which events are kept, what is missing after all others.

        Events and mask may have one row, which then stands for the history of every candidate.
        """
        if self.relevance is not None and target is not None:
            asked = self.relevance.asked(of_size_one(target)).detach()
            return best(product(of_size_one(vectors), asked), mask, self.keep)
        places = torch.arange(vectors.shape[1], device=vectors.device, dtype=vectors.dtype)
        unlike = torch.zeros_like(mask) if target is None else self._unlike(vectors, target.unsqueeze(1))
        far = torch.where(mask > 0, unlike, _MISSING) * float(_PLACES) + places
        nearest = far.topk(min(self.keep, vectors.shape[1]), dim=1, largest=False).indices
        return nearest.sort(dim=1).values

    def _unlike(self, vectors: Tensor, target: Tensor) -> Tensor:
        """Return whole numbers, float32 ``[B, L]``: how far each event is from the candidate, at most 128."""
        if self.search == "hash":
            return (bits(vectors, self.along) != bits(target, self.along)).sum(dim=2).to(vectors.dtype)
        event, candidate = vectors[..., self.compared], target[..., self.compared]
        # By sums, which graphs give of an empty history too.
        other = (event != candidate).to(vectors.dtype).sum(dim=2).clamp(max=1.0)
        unknown = (candidate == 0).to(vectors.dtype).prod(dim=2)
        return torch.maximum(other, unknown)


class Relevance(nn.Module):
    """How much each event matters for the candidate; at first, how alike they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.candidate, self.event = (nn.Parameter(torch.eye(width)) for _ in range(2))

    def asked(self, candidate: Tensor) -> Tensor:
        """Return float32 ``[B, d]``, ``W_bᵀ W_a e_a``: one product with it is r for any number of events."""
        asked: Tensor = candidate @ self.candidate.t() @ self.event
        return asked

    def forward(self, events: Tensor, candidate: Tensor) -> Tensor:
        """Return r, float32 ``[B, L]``, of events ``[B, L, d]`` for a candidate ``[B, d]``."""
        return (events * self.asked(candidate).unsqueeze(1)).sum(dim=2) / events.shape[2]

    def pooled(self, events: Tensor, candidate: Tensor, mask: Tensor) -> Tensor:
        """Return U_r, float32 ``[B, d]``, of the events that the mask ``[B, L]`` shows."""
        weights = self(events, candidate) * mask
        return (weights.unsqueeze(2) * events).sum(dim=1)


def _attribute(config: SearchedConfig, fields: tuple[str, ...], width: int) -> slice:
    """Return which numbers of an event `search: category` compares.

    Raises:
        BadInputError: the history has no attribute of that name.
    """
    if config.by is None:
        return slice(None)
    if config.by not in fields:
        raise BadInputError(
            f"searched compares events by {config.by!r}, which is no attribute of the history {', '.join(fields)}"
            f"{did_you_mean(config.by, fields)}: name one of its attributes, joined in one history"
        )
    each = width // len(fields)
    first = fields.index(config.by) * each
    return slice(first, first + each)
