"""How does a step change the ranker? Dense gradients through one flat buffer, table gradients row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from components.rankers.distributed import gathered, is_alone, summed
from components.rankers.embedding.shards import WHOLE, sent_home
from components.rankers.embedding.sparse_gradient import TouchedRows, summed_by_row
from components.rankers.embedding.table import FieldEmbedding
from components.train.train_ranker.config import Knobs
from components.train.train_ranker.losses import healthy
from components.train.train_ranker.rowwise import ROWWISE, RowOptimiser


class RankerOptimiser:
    """Adam for the dense weights, a row-wise optimiser for the embedding table where the knobs ask for one.

    All dense gradients are views of one flat buffer, so that one all-reduce sums them over workers; its last element
    carries the loss, so that every worker sees the loss of the whole batch, and with it a NaN on any worker, at the
    same step. Where a row-wise optimiser takes the table, workers exchange the gradients of the rows that they touched,
    not of the table; where it is sharded, each gradient goes to the worker that holds its row, and nobody else learns
    it. Either way the gradients of a step are collected row by row, and added up once.

    Args:
        ranker: what learns, where it computes.
        knobs: how.
        late: whether nobody looks at a loss before `step`, which then sees to it by itself that a loss that is no
            number ends learning; and nothing there waits for the device, unless there are several workers.
        held: int64 ``[V]``, how many training rows hold the value of each row of the table, for `mini_batch_aware`; of
            a sharded table, of the rows that this worker holds.
    """

    def __init__(self, ranker: nn.Module, knobs: Knobs, late: bool = False, held: Tensor | None = None) -> None:
        self.late = late
        self.rows: RowOptimiser | None = None
        self.touched: TouchedRows | None = None
        self.shard = WHOLE
        parameters = [p for p in ranker.parameters() if p.requires_grad]
        embedding = getattr(ranker, "embedding", None)
        if isinstance(embedding, FieldEmbedding) and (touched := embedding.learn_by_rows()) is not None:
            self.touched, self.table, self.shard = touched, embedding.weight, embedding.shard
            if knobs.tables.optimiser != "adam":
                rate = knobs.tables.learning_rate or knobs.learning_rate
                penalties = None
                if held is not None:
                    penalties = knobs.tables.mini_batch_aware / held.to(self.table.device).clamp(min=1).float()
                self.rows = ROWWISE[knobs.tables.optimiser](self.table, rate, knobs.weight_decay, penalties)
                parameters = [p for p in parameters if p is not self.table]
        self.flat = torch.zeros(sum(p.numel() for p in parameters) + 1, device=next(ranker.parameters()).device)
        start = 0
        for parameter in parameters:
            parameter.grad = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        self.dense = _Adam(parameters, knobs.learning_rate, knobs.weight_decay)
        # 1, and for ever 0 from the first loss on that is no number.
        self.go = torch.ones((), device=self.flat.device) if late else None

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
        if self.rows is None and self.touched is not None and self.table.grad is not None:
            self.table.grad.index_add_(0, *self._dense_gradients(self.touched))
        summed(self.flat)
        return self.loss

    def step(self) -> None:
        """Change the weights; where nobody looked at the loss, only if it and all those before are numbers.

        Raises:
            RetryableError: another worker is gone.
        """
        if self.go is not None:
            self.go.mul_(healthy(self.loss))
        self.dense.step(self.go)
        if self.rows is None or self.touched is None:
            return
        rows, gradients = self._row_gradients(self.touched)
        if len(rows) or self.shard.world > 1:  # a worker whose rows nobody read counts the step as the others do
            self.rows.step(rows, gradients, self.go)

    def _row_gradients(self, touched: TouchedRows) -> tuple[Tensor, Tensor]:
        """Return the rows that all workers touched, of a sharded table those held here, and the gradient of each."""
        width = self.table.shape[1]
        if self.late and is_alone():
            rows, gradients, _ = touched.repeated(width)
            return rows, gradients
        mine = touched.combined(width)
        if self.shard.world > 1:
            return sent_home(*mine, self.shard)
        rows, gradients = gathered(mine[0]), gathered(mine[1])
        if rows is not mine[0]:  # several workers may have touched the same row
            rows, gradients = summed_by_row(rows, gradients)
        return rows, gradients

    def _dense_gradients(self, touched: TouchedRows) -> tuple[Tensor, Tensor]:
        """Return the rows that this worker touched and what adds up to the gradient of each."""
        width = self.table.shape[1]
        if not self.late:
            return touched.combined(width)
        rows, gradients, count = touched.repeated(width)
        once = torch.arange(len(rows), device=rows.device) < count
        return rows, gradients * once.unsqueeze(1)

    def state(self) -> dict[str, Tensor]:
        """Return everything that a later step depends on, by name; nothing before the first step of Adam."""
        tensors = {f"rows.{name}": value for name, value in (self.rows.state() if self.rows else {}).items()}
        for i, moments in enumerate(self.dense.state):
            tensors |= {f"dense.{i}.{name}": value for name, value in moments.items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` returned."""
        for name, kept in (self.rows.state() if self.rows else {}).items():
            kept.copy_(tensors[f"rows.{name}"])
        self.dense.load(
            {name.removeprefix("dense."): value for name, value in tensors.items() if name.startswith("dense.")}
        )


class _Adam:
    """Adam by PyTorch's function: its class loads PyTorch's compiler, a second or two, and nothing is compiled.

    Args:
        parameters: weights, whose gradients are tensors from the start.
        rate: learning rate.
        decay: weight decay.
    """

    def __init__(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        self.parameters, self.rate, self.decay = parameters, rate, decay
        self.state: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def step(self, go: Tensor | None = None) -> None:
        """Change the weights; not where `go`, float32 ``[]``, is 0."""
        if not self.parameters:
            return
        self.state = self.state or [
            {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
            for p in self.parameters
        ]
        steps, means, squares = ([kept[name] for kept in self.state] for name in ("step", "exp_avg", "exp_avg_sq"))
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        adam(
            list(self.parameters), gradients, means, squares, [], steps, fused=True, amsgrad=False, beta1=0.9,
            beta2=0.999, lr=self.rate, weight_decay=self.decay, eps=1e-8, maximize=False,
            found_inf=None if go is None else 1.0 - go,
        )  # fmt: skip

    def load(self, kept: dict[str, Tensor]) -> None:
        """Put back the state: values by ``number.name``; without any, the next step is the first."""
        self.state = [
            {name: kept[f"{i}.{name}"].to(p.device, copy=True) for name in ("step", "exp_avg", "exp_avg_sq")}
            for i, p in enumerate(self.parameters if kept else ())
        ]
