"""SIM and ETA: which few of thousands of events are worth attention, and what do they say?

Two stages. The search keeps the `keep` events most like the candidate; then another encoder reads them as it would read
a short history. Pi et al., "Search-based User Interest Modeling with Lifelong Sequential Behavior Data", CIKM 2020,
search by an attribute that event and candidate share (their "hard" search); Chen et al., "Efficient Long Sequential
User Data Modeling for Click-Through Rate Prediction", 2022 (ETA), by the number of bits in which their hashes differ.
Among events that are equally alike the newest is kept, by whole numbers, so that training and graph keep the same ones.

The search has no gradient: what is not kept does not learn in this row.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from components.platform.errors import BadInputError, did_you_mean
from components.rankers.config import Sizes
from components.rankers.parts import SequenceEncoder
from components.rankers.registration import load, registered
from components.rankers.sequences.config import SearchedConfig
from components.rankers.sequences.hashing import bits, directions

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

    def kept(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return int64 ``[B, min(keep, L)]``, ascending: which events are kept, what is missing after all others."""
        places = torch.arange(vectors.shape[1], device=vectors.device, dtype=vectors.dtype)
        unlike = torch.zeros_like(mask) if target is None else self._unlike(vectors, target.unsqueeze(1))
        far = torch.where(mask > 0, unlike, _MISSING) * float(_PLACES) + places
        best = far.topk(min(self.keep, vectors.shape[1]), dim=1, largest=False).indices
        return best.sort(dim=1).values

    def _unlike(self, vectors: Tensor, target: Tensor) -> Tensor:
        """Return whole numbers, float32 ``[B, L]``: how far each event is from the candidate, at most 128."""
        if self.search == "hash":
            return (bits(vectors, self.along) != bits(target, self.along)).sum(dim=2).to(vectors.dtype)
        event, candidate = vectors[..., self.compared], target[..., self.compared]
        # By sums, which graphs give of an empty history too.
        other = (event != candidate).to(vectors.dtype).sum(dim=2).clamp(max=1.0)
        unknown = (candidate == 0).to(vectors.dtype).prod(dim=2)
        return torch.maximum(other, unknown)


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
