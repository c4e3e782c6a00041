"""How is a ranker trained? Read from top to bottom: set up, then per epoch train, evaluate, keep, report.

The loop is the same for one worker and for many. Every worker holds the whole model and knows the
whole row order; of each global batch it takes its share, and gradients are summed over workers
before the step. So the number of workers changes the time, not the model (up to rounding).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from components.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.files import WEIGHTS, write_weights
from components.rankers.lora import merged, write_adapter
from components.rankers.size import size_of
from components.rankers.tasks import Task, tasks_of
from components.rankers.workers import summed
from components.train_ranker.batches import epoch_order, features_at, labels_at, share
from components.train_ranker.config import Config, EpochReport
from components.train_ranker.job import Progress, TrainingJob, append_progress, write_size
from components.train_ranker.start import Start, start_of
from components.training_set import EncodedSplit, read_schema
from registry.metrics import auc, log_loss

EVALUATION_ROWS = 8192
"""Rows scored at once in an evaluation."""


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


class Gradients:
    """All gradients of a module as views of one flat buffer, so that one all-reduce sums them.

    The last element carries the loss: every worker sees the loss of the whole batch, and with it a NaN
    on any worker, at the same step.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        parameters = [p for p in module.parameters() if p.requires_grad]
        self.flat = torch.zeros(sum(p.numel() for p in parameters) + 1, device=device)
        start = 0
        for parameter in parameters:
            parameter.grad = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def clear(self) -> None:
        """Start a step."""
        self.flat.zero_()

    @property
    def loss(self) -> Tensor:
        """The slot of the loss, ``[1]``."""
        return self.flat[-1:]


def train(job: TrainingJob, replica: Replica) -> None:
    """Train until the epochs or the patience are used up; the best epoch's weights stay in `job.directory`.

    Args:
        job: data, ranker, settings.
        replica: this worker; with more than one, torch.distributed is initialised.

    Raises:
        BadInputError: there are no training rows, or the loss is not a number.
        RetryableError: another worker is gone.
    """
    # 1. Set up: the same seed gives every worker the same initial weights.
    config = job.config
    schema = read_schema(job.dataset)
    start = start_of(job, schema)
    ranker = start.ranker.to(replica.device)
    torch.manual_seed(config.seed * replica.world + replica.rank)  # dropout differs between workers
    gradients = Gradients(ranker, replica.device)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    training, validation = start.training, start.validation
    tasks = tasks_of(schema.declaration)
    if replica.rank == 0:
        write_size(job.directory, size_of(ranker))

    best, without_progress = -math.inf, 0
    if start.base is not None:
        best = _judge_base(job, start, tasks, schema.declaration.feedback, replica)
    for epoch in range(1, config.epochs + 1):
        # 2. Train.
        started = time.monotonic()
        loss = _train_epoch(ranker, optimiser, gradients, training, config, replica, epoch)
        trained = time.monotonic()
        # 3. Evaluate.
        predictions = predict(ranker, validation, tasks, replica)
        stop = False
        if replica.rank == 0:
            metrics = judge(predictions, validation, tasks)
            score = _score(metrics, schema.declaration.feedback, loss)
            better = score > best
            best, without_progress = (score, 0) if better else (best, without_progress + 1)
            # 4. Keep the best.
            if better:
                _keep(job, start, ranker)
            # 5. Report.
            metrics |= {f"routing/{name}": value for name, value in ranker.diagnostics().items()}
            report = EpochReport(epoch=epoch, train_loss=loss, metrics=metrics, best=better)
            seconds = time.monotonic() - started
            append_progress(job.directory, Progress(report=report, seconds=seconds, train_seconds=trained - started))
            stop = without_progress >= config.patience
        if replica.decided_by_first(stop):
            break


def _judge_base(
    job: TrainingJob, start: Start, tasks: tuple[Task, ...], feedback: tuple[str, ...], replica: Replica
) -> float:
    """Report the ranker before its adaptation as epoch 0, and return the score that an adaptation has to beat."""
    started = time.monotonic()
    base = (start.base or start.ranker).to(replica.device)
    loss = _mean_loss(base, start.training, replica)
    predictions = predict(base, start.validation, tasks, replica)
    if replica.rank > 0:
        return -math.inf
    metrics = judge(predictions, start.validation, tasks)
    score = _score(metrics, feedback, loss)
    if start.keeps_base:
        _keep(job, start, base)
    report = EpochReport(epoch=0, train_loss=loss, metrics=metrics, best=start.keeps_base)
    append_progress(job.directory, Progress(report=report, seconds=time.monotonic() - started, train_seconds=0.0))
    return score if start.keeps_base else -math.inf


def _keep(job: TrainingJob, start: Start, ranker: RankerModule) -> None:
    """Write the weights as those of a plain ranker, and an adapter beside them."""
    write_weights(job.directory / WEIGHTS, merged(ranker))
    if start.adapter is not None:
        write_adapter(job.directory, ranker, start.adapter)


def _train_epoch(
    ranker: RankerModule,
    optimiser: torch.optim.Optimizer,
    gradients: Gradients,
    rows: EncodedSplit,
    config: Config,
    replica: Replica,
    epoch: int,
) -> float:
    """Take one pass over the rows and return the mean loss per row."""
    ranker.train()
    order = epoch_order(rows.rows, config.seed, epoch)
    total = 0.0
    for step, start in enumerate(range(0, rows.rows, config.batch_size), start=1):
        batch = order[start : start + config.batch_size]
        mine = batch[share(len(batch), replica.rank, replica.world)]
        gradients.clear()
        if len(mine):  # the last batch may hold fewer rows than there are workers
            outputs = ranker(features_at(rows, mine, replica.device))
            # A mean over my rows becomes my part of the mean over the batch.
            loss = ranker.loss(outputs, labels_at(rows, mine, replica.device)) * (len(mine) / len(batch))
            loss.backward()
            gradients.loss.copy_(loss.detach())
        else:
            ranker.sit_out()
        replica.sum(gradients.flat)
        batch_loss = float(gradients.loss)
        if not math.isfinite(batch_loss):
            raise BadInputError(
                f"training diverged: the loss is {batch_loss} in epoch {epoch}, step {step}; "
                "lower learning_rate, or look for huge values in the numeric features"
            )
        optimiser.step()
        total += batch_loss * len(batch)
    return total / rows.rows


@torch.inference_mode()
def _mean_loss(ranker: RankerModule, rows: EncodedSplit, replica: Replica) -> float:
    """Return the mean loss per row without learning from it, on every worker."""
    ranker.eval()
    total = torch.zeros(1, device=replica.device)
    mine = share(rows.rows, replica.rank, replica.world)
    for start in range(mine.start, mine.stop, EVALUATION_ROWS):
        at = slice(start, min(start + EVALUATION_ROWS, mine.stop))
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
    for start in range(mine.start, mine.stop, EVALUATION_ROWS):
        at = slice(start, min(start + EVALUATION_ROWS, mine.stop))
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


def _score(metrics: dict[str, float], feedback: tuple[str, ...], loss: float) -> float:
    """Return what the best epoch has most of: the mean validation AUC over the feedback.

    Where no AUC is defined (an empty or one-class validation split) the training loss decides.
    """
    areas = [metrics[f"validation/{name}/auc"] for name in feedback if f"validation/{name}/auc" in metrics]
    return sum(areas) / len(areas) if areas else -loss
