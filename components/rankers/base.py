"""What must every ranker's module offer to train, export and evaluate it?"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class RankerModule(nn.Module, ABC):
    """Tensors in, named tensors out; no data access, no optimiser, no files.

    State that no gradient changes (cluster centres, thresholds, normalisers) is a registered buffer,
    so that it is in the state dict and follows the module to its device.
    """

    @abstractmethod
    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict a batch of B rows.

        Args:
            batch: by field, int64 ``[B]`` (categorical), int64 ``[B, L]`` (sequence) or float32 ``[B]``.

        Returns:
            A probability ``[B]`` per task of `tasks_of`, logits that only `loss` reads, ``hidden`` ``[B, H]``.
        """

    @abstractmethod
    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the training loss, a mean over the rows.

        Args:
            outputs: what `forward` returned.
            labels: by feedback, float32 ``[B]``, 0 or 1.
        """

    def sit_out(self) -> None:
        """Take part in a training step without rows: called instead of `forward`, so that no worker waits."""
        return

    def diagnostics(self) -> dict[str, float]:
        """Return what a reader of the training curves should see of the ranker's state; empty by default."""
        return {}
