"""How does a history become one vector? The exchangeable part between embedding and interaction."""

from __future__ import annotations

from torch import Tensor, nn


class MeanSequence(nn.Module):
    """Mean of the events of a history; zero when there are none."""

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Pool one field.

        Args:
            vectors: float32 ``[B, L, d]``, zero where there is no event; L may be 0.
            mask: float32 ``[B, L]``, 1 where there is an event.

        Returns:
            float32 ``[B, d]``.
        """
        events = mask.sum(dim=1, keepdim=True)
        # At least 1: the sum over no events is zero and stays zero.
        return vectors.sum(dim=1) / events.clamp(min=1.0)
