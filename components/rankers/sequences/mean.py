"""How does the mean of its events stand for a history?"""

from __future__ import annotations

from torch import Tensor

from components.rankers.embedding.events import Events, JoinedEvents
from components.rankers.parts import SequenceEncoder
from components.rankers.sequences.config import MeanConfig


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the events, float32 ``[B, d]``; zero when there are none.

    Args:
        vectors: float32 ``[B, L, d]``, zero where there is no event; L may be 0.
        mask: float32 ``[B, L]``, 1 where there is an event.
    """
    # At least 1: the sum over no events is zero and stays zero.
    return vectors.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1.0)


class MeanSequence(SequenceEncoder):
    """Mean of the events; zero when there are none."""

    def __init__(self, width: int, length: int, config: MeanConfig, targeted: bool = True) -> None:
        super().__init__()
        self.out_features = width

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return float32 ``[B, d]``; see `SequenceEncoder.forward`."""
        return masked_mean(vectors, mask)

    def of_events(self, events: Events | JoinedEvents, target: Tensor | None, **times: Tensor) -> Tensor:
        """Return float32 ``[B, d]``; see `SequenceEncoder.of_events`."""
        return events.mean()
