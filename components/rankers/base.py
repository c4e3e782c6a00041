"""What must every ranker's module offer to train, export and evaluate it, and how large is it?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from features.declaration import Frozen


class RankerModule(nn.Module, ABC):
    """Tensors in, named tensors out; no data access, no optimiser, no files.

    State that no gradient changes (cluster centres, thresholds, normalisers) is a registered buffer,
    so that it is in the state dict and follows the module to its device.
    """

    one_effect: ClassVar[bool] = False
    """Whether the effect of a place (`components.rankers.position`) is one number for all logits of a row, because
    logits keep an order among each other."""

    jagged: ClassVar[bool] = False
    """Whether `forward` also takes histories that lie one after the other, as training then gives them."""

    @abstractmethod
    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict a batch of B rows.

        Args:
            batch: by field, int64 ``[B]`` (categorical), int64 ``[B, L]`` (sequence), or float32 ``[B]`` or
                ``[B, n]``; see `FieldSpec`. Where `jagged`, a sequence or elapsed field may be ``[N]`` instead, with
                the bounds of the rows' histories under its `offsets_name`, int64 ``[B + 1]``.

        Returns:
            A probability ``[B]`` per task of `tasks_of`, logits that only `loss` reads, ``hidden`` ``[B, H]``.
        """

    @abstractmethod
    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the training loss, a mean over the rows.

        Args:
            outputs: what `forward` returned.
            labels: by feedback, float32 ``[B]``, 0 or 1; by `features.declaration.weight_name`, where the training
                set weighs rows, float32 ``[B]``, how much each counts, 1 on average.
        """

    def sit_out(self) -> None:
        """Take part in a training step without rows: called instead of `forward`, so that no worker waits."""
        return

    def diagnostics(self) -> dict[str, float]:
        """Return what a reader of the training curves should see of the ranker's state; empty by default."""
        return {}

    def attended(self) -> tuple[str, ...]:
        """Return the names of what attends to each other in `attention`, in its order; empty where nothing is shown."""
        return ()

    def attention(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return what attends to what in a batch, to be shown to people; empty by default.

        Args:
            batch: as of `forward`.

        Returns:
            Per layer float32 ``[B, H, A, A]``, A as many as `attended` names: of each head, how much what a row is
            about attends to what a column is about; each row adds to 1.
        """
        return ()


EMBEDDING = "embedding"
"""Word in the name of every module that holds embedding tables."""


class Size(Frozen):
    """Counts of learned numbers; buffers and frozen parameters are not learned and do not count."""

    embedding: int
    """Rows × width over all embedding tables, which grow with the data."""
    dense: int
    """Everything else."""


def size_of(ranker: nn.Module) -> Size:
    """Return the size of a ranker; a parameter that is used twice counts once."""
    counts = {name: parameter.numel() for name, parameter in ranker.named_parameters() if parameter.requires_grad}
    embedding = sum(count for name, count in counts.items() if EMBEDDING in name)
    return Size(embedding=embedding, dense=sum(counts.values()) - embedding)
