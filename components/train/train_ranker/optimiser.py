"""How does a step change the ranker? Dense gradients through one flat buffer, table gradients row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.distributed import gathered, summed
from components.rankers.embedding.sparse_gradient import TouchedRows, summed_by_row
from components.rankers.embedding.table import FieldEmbedding
from components.train.train_ranker.config import Knobs
from components.train.train_ranker.rowwise import ROWWISE, RowOptimiser


class RankerOptimiser:
    """Adam for the dense weights, a row-wise optimiser for the embedding table where the knobs ask for one.

    All dense gradients are views of one flat buffer, so that one all-reduce sums them over workers; its last element
    carries the loss, so that every worker sees the loss of the whole batch, and with it a NaN on any worker, at the
    same step. Workers exchange the gradients of the rows that they touched, not of the table. The table stops making
    dense gradients if a row-wise optimiser takes it.
    """

    def __init__(self, ranker: nn.Module, knobs: Knobs) -> None:
        self.rows: RowOptimiser | None = None
        self.touched: TouchedRows | None = None
        parameters = [p for p in ranker.parameters() if p.requires_grad]
        embedding = getattr(ranker, "embedding", None)
        if knobs.tables.optimiser != "adam" and isinstance(embedding, FieldEmbedding):
            self.touched = embedding.learn_by_rows()
            if self.touched is not None:
                self.width = embedding.weight.shape[1]
                rate = knobs.tables.learning_rate or knobs.learning_rate
                self.rows = ROWWISE[knobs.tables.optimiser](embedding.weight, rate, knobs.weight_decay)
                parameters = [p for p in parameters if p is not embedding.weight]
        self.flat = torch.zeros(sum(p.numel() for p in parameters) + 1, device=next(ranker.parameters()).device)
        start = 0
        for parameter in parameters:
            parameter.grad = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        self.dense = (
            torch.optim.Adam(parameters, lr=knobs.learning_rate, weight_decay=knobs.weight_decay, fused=True)
            if parameters
            else None
        )

    @property
    def loss(self) -> Tensor:
        """The slot of the loss, ``[1]``."""
        return self.flat[-1:]

    def clear(self) -> None:
        """Start a step."""
        self.flat.zero_()
        if self.touched is not None:
            self.touched.clear()

    def sum_losses(self) -> Tensor:
        """Add up dense gradients and losses over the workers and return the batch's loss, ``[1]``.

        Raises:
            RetryableError: another worker is gone.
        """
        summed(self.flat)
        return self.loss

    def step(self) -> None:
        """Change the weights.

        Raises:
            RetryableError: another worker is gone.
        """
        if self.dense is not None:
            self.dense.step()
        if self.rows is None or self.touched is None:
            return
        mine = self.touched.combined(self.width)
        rows, gradients = gathered(mine[0]), gathered(mine[1])
        if rows is not mine[0]:  # several workers may have touched the same row
            rows, gradients = summed_by_row(rows, gradients)
        if len(rows):
            self.rows.step(rows, gradients)

    def state(self) -> dict[str, Tensor]:
        """Return everything that a later step depends on, by name; nothing before the first step of Adam."""
        tensors = {f"rows.{name}": value for name, value in (self.rows.state() if self.rows else {}).items()}
        if self.dense is not None:
            for i, moments in self.dense.state_dict()["state"].items():
                tensors |= {f"dense.{i}.{name}": value for name, value in moments.items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` returned."""
        for name, kept in (self.rows.state() if self.rows else {}).items():
            kept.copy_(tensors[f"rows.{name}"])
        if self.dense is None:
            return
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "dense":
                index, _, moment = rest.partition(".")
                moments.setdefault(int(index), {})[moment] = value
        self.dense.load_state_dict(self.dense.state_dict() | {"state": moments})
