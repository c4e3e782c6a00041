"""How is a ranker trained? Read from top to bottom: set up, then per epoch train, evaluate, keep, report.

The loop is the same for one worker and for many. Every worker holds the whole model, where its table is sharded all
but the rows of others, and knows the whole row order; of each global batch it takes its share, and gradients are
summed over workers before the step. So the number of workers changes the time, not the model (up to rounding).

Everything random is a function of seed, epoch, step and worker, so a run that goes on from a checkpoint takes the
same steps as one that was never interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from components.data.training_set import EncodedSplit, read_schema
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule, Size, size_of
from components.rankers.distributed import summed
from components.rankers.embedding.shards import WHOLE, Shard
from components.rankers.embedding.table import FieldEmbedding, fetch
from components.rankers.lora.adapter import merged, write_adapter
from components.rankers.tasks import Task, tasks_of
from components.train.ranker_files import WEIGHTS, write_weights
from components.train.train_ranker.checkpoints import Position, newest, put_back, save
from components.train.train_ranker.config import EpochReport
from components.train.train_ranker.counts import rows_per_value
from components.train.train_ranker.feed import Batch, Plan, batches, features_at, labels_at, share
from components.train.train_ranker.job import (
    OPTIMISER,
    Progress,
    TrainingJob,
    append_progress,
    read_progress,
    write_size,
)
from components.train.train_ranker.losses import Loss, Losses, diverged, is_healthy
from components.train.train_ranker.optimiser import RankerOptimiser
from components.train.train_ranker.shard_files import load_rows, save_sharded, write_sharded_weights
from components.train.train_ranker.start import Start, start_of, write_optimiser
from features.declaration import Declaration, JudgeBy
from registry.evaluation import goodness
from registry.metrics import Requests, auc, log_loss, value_of

EVALUATION_ROWS = 8192
"""Rows scored at once in an evaluation."""
LET_GO_EVERY = 128
"""Batches between two times that the memory of a mapped file is given back."""
_RANKER = "ranker."
_OPTIMISER = "optimiser."
_TABLE = "embedding.weight"
"""The table of which workers may hold shards, in a ranker's state."""


@dataclass(frozen=True)
class Replica:
    """Which worker this is, of how many, and where it computes."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    late: bool | None = None
    """Whether a step's loss is read while the step after it runs; left out, where the device computes by itself."""

    @property
    def reads_late(self) -> bool:
        """Whether nobody waits for a step's loss before the next step begins."""
        return self.device.type == "cuda" if self.late is None else self.late

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


def train(job: TrainingJob, replica: Replica, ends: Callable[[Progress], bool] | None = None) -> RankerModule:
    """Train until the epochs or the patience are used up; the best epoch's weights stay in `job.directory`.

    Args:
        job: what to train.
        replica: which worker this is.
        ends: told of each epoch by worker 0; True ends training there.

    Returns:
        The ranker with the weights of its last epoch.

    Raises:
        BadInputError: there are no training rows, or the loss is not a number.
        RetryableError: another worker is gone.
    """
    # 1. Set up: the same seed gives every worker the same initial weights.
    config, first = job.config, replica.rank == 0
    schema = read_schema(job.dataset)
    shard = Shard(replica.rank, replica.world) if config.tables.sharded else WHOLE
    start = start_of(job, schema, shard)
    tasks, feedback = tasks_of(schema.declaration), schema.declaration.feedback
    if first:
        write_size(job.directory, _whole_size(start.ranker))
    found = newest(job.directory)
    at = found[0] if found else Position()
    ranker = start.ranker.to(replica.device)
    held = rows_per_value(start.training, ranker) if config.tables.mini_batch_aware else None
    optimiser = RankerOptimiser(ranker, config, replica.reads_late, held)
    if start.optimiser is not None and found is None:
        optimiser.load(start.optimiser)
    if start.base is not None and found is None:
        at = _judge_base(job, start, optimiser, schema.declaration, replica)
    if found:
        _restore(job, ranker, optimiser, *found, replica)
        if first:
            put_back(job.directory, at)
    while at.epoch <= config.epochs and at.without_progress < config.patience:
        epoch = at.epoch
        # 2. Train.
        started = time.monotonic()
        loss = _train_epoch(job, start, ranker, optimiser, tasks, at, replica)
        trained = time.monotonic()
        # 3. Evaluate.
        ended = better = False
        score = None
        predictions = predict(ranker, start.validation, tasks, replica)
        at = at.model_copy(update={"epoch": epoch + 1, "step": 0, "loss": 0.0})
        if first:
            metrics = judge(predictions, start.validation, tasks, schema.declaration.judge_by)
            score = score_of(metrics, feedback, loss, schema.declaration.judge_by)
            better = at.best is None or score > at.best
        # 4. Keep the best.
        if replica.decided_by_first(better):
            _keep(job, start, ranker, optimiser, replica)
        # 5. Report.
        line = None
        if first:
            metrics |= {f"routing/{name}": value for name, value in ranker.diagnostics().items()}
            report = EpochReport(epoch=epoch, train_loss=loss, metrics=metrics, best=better)
            seconds = time.monotonic() - started
            line = Progress(report=report, seconds=seconds, train_seconds=trained - started, workers=replica.world)
            at = at.model_copy(
                update={
                    "best": score if better else at.best,
                    "without_progress": 0 if better else at.without_progress + 1,
                    "history": (*at.history, line),
                }
            )
        warning = _save(job, ranker, optimiser, at, replica)
        if line is not None:
            append_progress(job.directory, line.model_copy(update={"warning": warning}))
            ended = at.without_progress >= config.patience or (ends is not None and ends(line))
        if replica.decided_by_first(ended):
            break
    return ranker


def _judge_base(
    job: TrainingJob,
    start: Start,
    optimiser: RankerOptimiser,
    roles: Declaration,
    replica: Replica,
) -> Position:
    """Report the ranker that training starts from as epoch 0, and return where training starts."""
    started = time.monotonic()
    base = (start.base or start.ranker).to(replica.device)
    loss = mean_loss(base, start.training, replica)
    tasks = tasks_of(roles)
    predictions = predict(base, start.validation, tasks, replica)
    if replica.rank > 0:
        return Position()
    metrics = judge(predictions, start.validation, tasks, roles.judge_by)
    if start.keeps_base:
        _keep(job, start, base, optimiser, replica)
    put_back(job.directory, Position())  # what began and ended before its first checkpoint may have left this line
    report = EpochReport(epoch=0, train_loss=loss, metrics=metrics, best=start.keeps_base)
    append_progress(job.directory, Progress(report=report, seconds=time.monotonic() - started, train_seconds=0.0))
    best = score_of(metrics, roles.feedback, loss, roles.judge_by) if start.keeps_base else None
    return Position(best=best, history=tuple(read_progress(job.directory)))


def _whole_size(ranker: RankerModule) -> Size:
    """Return the size of a ranker, rows that other workers hold included."""
    size, embedding = size_of(ranker), getattr(ranker, "embedding", None)
    if not isinstance(embedding, FieldEmbedding) or embedding.shard.world == 1:
        return size
    elsewhere = (embedding.rows - embedding.weight.shape[0]) * embedding.width
    return size.model_copy(update={"embedding": size.embedding + elsewhere})


def _keep(job: TrainingJob, start: Start, ranker: RankerModule, optimiser: RankerOptimiser, replica: Replica) -> None:
    """Write the weights as those of a plain ranker, and an adapter or the optimiser's values beside them."""
    if optimiser.shard.world > 1:
        embedding = cast(FieldEmbedding, ranker.get_submodule("embedding"))
        write_sharded_weights(job.directory / WEIGHTS, ranker, _TABLE, embedding.rows, embedding.shard)
        return
    if replica.rank > 0:
        return
    write_weights(job.directory / WEIGHTS, merged(ranker))
    if job.keeps_optimiser:
        write_optimiser(job.directory / OPTIMISER, optimiser.state(), job.config)
    if start.adapter is not None:
        write_adapter(job.directory, ranker, start.adapter)


def _train_epoch(
    job: TrainingJob,
    start: Start,
    ranker: RankerModule,
    optimiser: RankerOptimiser,
    tasks: tuple[Task, ...],
    at: Position,
    replica: Replica,
) -> float:
    """Take one pass over the rows, or what is left of it, and return the mean loss per row."""
    config, epoch = job.config, at.epoch
    plan = Plan(
        config.batch_size,
        config.seed,
        config.shuffle_rows,
        replica.rank,
        replica.world,
        replica.device,
        config.shown_unknown,
        start.ids,
        ranker.jagged,
    )
    ranker.train()

    def refused(batch: Batch, loss: float) -> BadInputError:
        return diverged(ranker, batch.features, tasks, loss, epoch, batch.step)

    losses = Losses(at.loss, replica.reads_late, refused)
    with batches(start.training, plan, epoch, after=at.step) as steps:
        for batch in steps:
            torch.manual_seed(_entropy(config.seed, epoch, batch.step, replica.rank))  # dropout differs by worker
            losses.add(batch, take_step(ranker, optimiser, batch, config.precision, replica))
            if batch.step % config.checkpoints.steps == 0:
                here = at.model_copy(update={"step": batch.step, "loss": losses.total()})
                _save(job, ranker, optimiser, here, replica)
    return losses.total() / start.training.rows


def take_step(ranker: RankerModule, optimiser: RankerOptimiser, batch: Batch, precision: str, replica: Replica) -> Loss:
    """Learn from one batch and return its mean loss over all workers; a loss that is no number changes nothing.

    With a late `optimiser` nothing here waits for the device, as long as the ranker decides no shape by what its
    tensors hold: `adaptdhm` and `star` group rows by route, `transformer` and `fintrec` histories by length, `gnolr`
    with a contrast looks which items a batch has, and several workers ask each other how many rows they touched.

    No CUDA graph is captured. A graph replays kernels of the sizes that it was captured with, and here those change
    with every step: how many events the histories of a batch hold, how many ids, and how many rows the last batch has.
    Padding all of them to the most there may be costs what jagged histories are there to save.

    Raises:
        RetryableError: another worker is gone.
    """
    optimiser.clear()
    fetch(ranker, batch.features or None)
    if batch.mine:  # the last batch may hold fewer rows than there are workers
        with torch.autocast(replica.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = ranker(batch.features)
        # A mean over my rows becomes my part of the mean over the batch.
        loss = ranker.loss(outputs, batch.labels) * (batch.mine / batch.rows)
        loss.backward()
        optimiser.loss.copy_(loss.detach())
    else:
        ranker.sit_out()
    whole = Loss.of(optimiser.sum_losses())
    if optimiser.late or is_healthy(whole.read()):
        optimiser.step()
    return whole


def _entropy(*parts: int) -> int:
    """Return one seed for each tuple of numbers, negative ones included."""
    return int(np.random.SeedSequence([part % 2**63 for part in parts]).generate_state(1, np.uint64)[0] >> 1)


def _state(ranker: RankerModule, optimiser: RankerOptimiser) -> dict[str, Tensor]:
    """Return everything that a later step depends on, by name: the tensors themselves."""
    tensors = {_RANKER + name: value for name, value in ranker.state_dict().items()}
    return tensors | {_OPTIMISER + name: value for name, value in optimiser.state().items()}


def _of_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what of a state is one entry per row of the table."""
    return {
        name: value.detach()
        for name, value in tensors.items()
        if name == _RANKER + _TABLE or (name.startswith(f"{_OPTIMISER}rows.") and value.ndim)
    }


def _save(
    job: TrainingJob, ranker: RankerModule, optimiser: RankerOptimiser, at: Position, replica: Replica
) -> str | None:
    """Write a checkpoint; of sharded tables every worker its part, of others worker 0 all of it."""
    keep = job.config.checkpoints.keep
    if job.config.tables.sharded:
        tensors = _state(ranker, optimiser)
        rows = _of_rows(tensors)
        alike = {name: value for name, value in tensors.items() if name not in rows}
        return save_sharded(job.directory, at, alike, rows, keep, Shard(replica.rank, replica.world))
    return save(job.directory, at, _state(ranker, optimiser), keep) if replica.rank == 0 else None


def _restore(
    job: TrainingJob, ranker: RankerModule, optimiser: RankerOptimiser, at: Position, file: Path, replica: Replica
) -> None:
    tensors = load_file(str(file))
    if job.config.tables.sharded:
        rows = _of_rows(_state(ranker, optimiser))
        load_rows(file.parent, len(at.shards), rows, Shard(replica.rank, replica.world))
        tensors |= rows

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    ranker.load_state_dict(part(_RANKER))
    optimiser.load(part(_OPTIMISER))


@torch.inference_mode()
def mean_loss(ranker: RankerModule, rows: EncodedSplit, replica: Replica) -> float:
    """Return the mean loss per row without learning from it, on every worker."""
    ranker.eval()
    total = torch.zeros(1, device=replica.device)
    for at in _slices(rows, replica):
        if (outputs := _answers(ranker, rows, at, replica)) is not None:
            total += ranker.loss(outputs, labels_at(rows, at, replica.device)) * (at.stop - at.start)
    return float(replica.sum(total)) / rows.rows


@torch.inference_mode()
def predict(
    ranker: RankerModule, rows: EncodedSplit, tasks: tuple[Task, ...], replica: Replica
) -> dict[str, np.ndarray]:
    """Return every task's probability for every row, float32 ``[rows]``, on every worker.

    Each worker scores its share; shares are put together by adding arrays that are zero elsewhere.
    """
    ranker.eval()
    predictions = torch.zeros(len(tasks), rows.rows, device=replica.device)
    for at in _slices(rows, replica):
        if (outputs := _answers(ranker, rows, at, replica)) is not None:
            predictions[:, at] = torch.stack([outputs[task.name] for task in tasks])
    return dict(zip((task.name for task in tasks), replica.sum(predictions).cpu().numpy(), strict=True))


def judge(
    predictions: dict[str, np.ndarray], rows: EncodedSplit, tasks: tuple[Task, ...], by: JudgeBy = "auc"
) -> dict[str, float]:
    """Return ``validation/<task>/{auc,log_loss}`` and what rankers are judged `by`, over the rows of each task.

    What is undefined, such as the AUC of rows of one class, is left out.
    """
    metrics: dict[str, float] = {}
    for task in tasks:
        space = slice(None) if task.given is None else rows.labels[task.given] > 0
        labels, scores = rows.labels[task.label][space], predictions[task.name][space]
        values = {"auc": auc(labels, scores), "log_loss": log_loss(labels, scores)}
        if by not in values:
            requests = None if rows.request is None else Requests(rows.request[space])
            values[by] = value_of(by, labels, scores, rows.user[space], requests)
        metrics |= {f"validation/{task.name}/{name}": value for name, value in values.items() if value is not None}
    return metrics


def _answers(ranker: RankerModule, rows: EncodedSplit, at: slice, replica: Replica) -> dict[str, Tensor] | None:
    """Return a ranker's outputs for some rows of a split; None where there is no row."""
    features = features_at(rows, at, replica.device, ranker.jagged) if at.start < at.stop else None
    fetch(ranker, features)
    return None if features is None else ranker(features)


def _slices(rows: EncodedSplit, replica: Replica) -> Iterator[slice]:
    """Yield consecutive slices of this worker's share; what was read is given back on the way.

    There are as many as of the largest share, so that workers can ask each other for rows; the last may be empty.
    """
    mine, largest = share(rows.rows, replica.rank, replica.world), -(-rows.rows // replica.world)
    for number, first in enumerate(range(0, largest, EVALUATION_ROWS), start=1):
        start = min(mine.start + first, mine.stop)
        yield slice(start, min(start + EVALUATION_ROWS, mine.stop))
        if number % LET_GO_EVERY == 0:
            rows.let_go()


def score_of(metrics: dict[str, float], feedback: tuple[str, ...], loss: float, by: JudgeBy = "auc") -> float:
    """Return what the best epoch has most of: the mean over the feedback of what rankers are judged `by`.

    Where that is not defined (an empty or one-class validation split) the training loss decides.
    """
    values = [metrics[f"validation/{name}/{by}"] for name in feedback if f"validation/{name}/{by}" in metrics]
    if not values:
        return -loss
    return goodness(by, sum(values) / len(values))
