"""How good is a ranker on rows that it does not learn from? Scores, areas and log-losses of a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from components.data.training_set import EncodedSplit
from components.rankers.base import RankerModule
from components.rankers.distributed import summed
from components.rankers.tasks import Task
from components.train.train_ranker.batches import features_at, labels_at
from components.train.train_ranker.order import share
from registry.metrics import auc, log_loss

EVALUATION_ROWS = 8192
"""Rows scored at once in an evaluation."""
LET_GO_EVERY = 128
"""Batches between two times that the memory of a mapped file is given back."""


@dataclass(frozen=True)
class Replica:
    """Which worker this is, of how many, and where it computes."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum(self, values: Tensor) -> Tensor:
        """Sum `values` over all workers, in place.

        Raises:
            RetryableError: another worker is gone.
        """
        return summed(values) if self.world > 1 else values

    def decided_by_first(self, decision: bool) -> bool:
        """Return worker 0's decision on every worker."""
        flag = torch.tensor([decision if self.rank == 0 else False], dtype=torch.int32, device=self.device)
        return bool(self.sum(flag).item())


@torch.inference_mode()
def mean_loss(ranker: RankerModule, rows: EncodedSplit, replica: Replica) -> float:
    """Return the mean loss per row without learning from it, on every worker."""
    ranker.eval()
    total = torch.zeros(1, device=replica.device)
    mine = share(rows.rows, replica.rank, replica.world)
    for at in _slices(mine, rows):
        outputs = ranker(features_at(rows, at, replica.device))
        total += ranker.loss(outputs, labels_at(rows, at, replica.device)) * (at.stop - at.start)
    return float(replica.sum(total)) / rows.rows


@torch.inference_mode()
def predict(ranker: nn.Module, rows: EncodedSplit, tasks: tuple[Task, ...], replica: Replica) -> dict[str, np.ndarray]:
    """Return every task's probability for every row, float32 ``[rows]``, on every worker.

    Each worker scores its share; shares are put together by adding arrays that are zero elsewhere.
    """
    ranker.eval()
    predictions = torch.zeros(len(tasks), rows.rows, device=replica.device)
    mine = share(rows.rows, replica.rank, replica.world)
    for at in _slices(mine, rows):
        outputs = ranker(features_at(rows, at, replica.device))
        predictions[:, at] = torch.stack([outputs[task.name] for task in tasks])
    return dict(zip((task.name for task in tasks), replica.sum(predictions).cpu().numpy(), strict=True))


def judge(predictions: dict[str, np.ndarray], rows: EncodedSplit, tasks: tuple[Task, ...]) -> dict[str, float]:
    """Return ``validation/<task>/{auc,log_loss}``, each over the rows its task is defined on.

    What is undefined, such as the AUC of rows of one class, is left out.
    """
    metrics: dict[str, float] = {}
    for task in tasks:
        space = slice(None) if task.given is None else rows.labels[task.given] > 0
        labels, scores = rows.labels[task.label][space], predictions[task.name][space]
        for name, value in (("auc", auc(labels, scores)), ("log_loss", log_loss(labels, scores))):
            if value is not None:
                metrics[f"validation/{task.name}/{name}"] = value
    return metrics


def _slices(mine: slice, rows: EncodedSplit) -> Iterator[slice]:
    """Yield consecutive slices of `mine`; what was read is given back on the way."""
    for number, start in enumerate(range(mine.start, mine.stop, EVALUATION_ROWS), start=1):
        yield slice(start, min(start + EVALUATION_ROWS, mine.stop))
        if number % LET_GO_EVERY == 0:
            rows.let_go()


def score_of(metrics: dict[str, float], feedback: tuple[str, ...], loss: float) -> float:
    """Return what the best epoch has most of: the mean validation AUC over the feedback.

    Where no AUC is defined (an empty or one-class validation split) the training loss decides.
    """
    areas = [metrics[f"validation/{name}/auc"] for name in feedback if f"validation/{name}/auc" in metrics]
    return sum(areas) / len(areas) if areas else -loss
