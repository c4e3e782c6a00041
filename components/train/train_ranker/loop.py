"""How is a ranker trained? Read from top to bottom: set up, then per epoch train, evaluate, keep, report.

The loop is the same for one worker and for many. Every worker holds the whole model and knows the
whole row order; of each global batch it takes its share, and gradients are summed over workers
before the step. So the number of workers changes the time, not the model (up to rounding).

Everything random is a function of seed, epoch, step and worker, so a run that goes on from a checkpoint takes the
same steps as one that was never interrupted.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from components.data.training_set import read_schema
from components.rankers.base import RankerModule
from components.rankers.lora.adapter import merged, write_adapter
from components.rankers.size import size_of
from components.rankers.tasks import Task, tasks_of
from components.train.ranker_files import WEIGHTS, write_weights
from components.train.train_ranker.carry import write_optimiser
from components.train.train_ranker.checkpoints import Position, newest, put_back, save
from components.train.train_ranker.config import EpochReport
from components.train.train_ranker.diverged import diverged, is_healthy
from components.train.train_ranker.feed import Batch, Plan, batches
from components.train.train_ranker.job import (
    OPTIMISER,
    Progress,
    TrainingJob,
    append_progress,
    read_progress,
    write_size,
)
from components.train.train_ranker.optimiser import RankerOptimiser
from components.train.train_ranker.start import Start, start_of
from components.train.train_ranker.validation import Replica, judge, mean_loss, predict, score_of

_RANKER = "ranker."
_OPTIMISER = "optimiser."


def train(job: TrainingJob, replica: Replica) -> None:
    """Train until the epochs or the patience are used up; the best epoch's weights stay in `job.directory`.

    Args:
        job: data, ranker, settings; training goes on from the newest checkpoint in its directory, if there is one.
        replica: this worker; with more than one, torch.distributed is initialised.

    Raises:
        BadInputError: there are no training rows, or the loss is not a number.
        RetryableError: another worker is gone.
    """
    # 1. Set up: the same seed gives every worker the same initial weights.
    config, first = job.config, replica.rank == 0
    schema = read_schema(job.dataset)
    start = start_of(job, schema)
    tasks, feedback = tasks_of(schema.declaration), schema.declaration.feedback
    if first:
        write_size(job.directory, size_of(start.ranker))
    found = newest(job.directory)
    at = found[0] if found else Position()
    ranker = start.ranker.to(replica.device)
    optimiser = RankerOptimiser(ranker, config)
    if start.optimiser is not None and found is None:
        optimiser.load(start.optimiser)
    if start.base is not None and found is None:
        at = _judge_base(job, start, optimiser, tasks, feedback, replica)
    if found:
        _restore(ranker, optimiser, found[1])
        if first:
            put_back(job.directory, at)
    while at.epoch <= config.epochs and at.without_progress < config.patience:
        epoch = at.epoch
        # 2. Train.
        started = time.monotonic()
        loss = _train_epoch(job, start, ranker, optimiser, tasks, at, replica)
        trained = time.monotonic()
        # 3. Evaluate.
        predictions = predict(ranker, start.validation, tasks, replica)
        at = at.model_copy(update={"epoch": epoch + 1, "step": 0, "loss": 0.0})
        if first:
            metrics = judge(predictions, start.validation, tasks)
            score = score_of(metrics, feedback, loss)
            better = at.best is None or score > at.best
            # 4. Keep the best.
            if better:
                _keep(job, start, ranker, optimiser)
            # 5. Report.
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
            warning = _save(job, ranker, optimiser, at)
            append_progress(job.directory, line.model_copy(update={"warning": warning}))
        if replica.decided_by_first(at.without_progress >= config.patience):
            break


def _judge_base(
    job: TrainingJob,
    start: Start,
    optimiser: RankerOptimiser,
    tasks: tuple[Task, ...],
    feedback: tuple[str, ...],
    replica: Replica,
) -> Position:
    """Report the ranker that training starts from as epoch 0, and return where training starts."""
    started = time.monotonic()
    base = (start.base or start.ranker).to(replica.device)
    loss = mean_loss(base, start.training, replica)
    predictions = predict(base, start.validation, tasks, replica)
    if replica.rank > 0:
        return Position()
    metrics = judge(predictions, start.validation, tasks)
    if start.keeps_base:
        _keep(job, start, base, optimiser)
    put_back(job.directory, Position())  # what began and ended before its first checkpoint may have left this line
    report = EpochReport(epoch=0, train_loss=loss, metrics=metrics, best=start.keeps_base)
    append_progress(job.directory, Progress(report=report, seconds=time.monotonic() - started, train_seconds=0.0))
    best = score_of(metrics, feedback, loss) if start.keeps_base else None
    return Position(best=best, history=tuple(read_progress(job.directory)))


def _keep(job: TrainingJob, start: Start, ranker: RankerModule, optimiser: RankerOptimiser) -> None:
    """Write the weights as those of a plain ranker, and an adapter or the optimiser's values beside them."""
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
    )
    ranker.train()
    total = at.loss
    with batches(start.training, plan, epoch, after=at.step) as steps:
        for batch in steps:
            torch.manual_seed(_entropy(config.seed, epoch, batch.step, replica.rank))  # dropout differs by worker
            loss = take_step(ranker, optimiser, batch, config.precision, replica)
            if not is_healthy(loss):
                raise diverged(ranker, batch.features, tasks, loss, epoch, batch.step)
            total += loss * batch.rows
            if replica.rank == 0 and batch.step % config.checkpoints.steps == 0:
                here = at.model_copy(update={"step": batch.step, "loss": total})
                _save(job, ranker, optimiser, here)
    return total / start.training.rows


def take_step(
    ranker: RankerModule, optimiser: RankerOptimiser, batch: Batch, precision: str, replica: Replica
) -> float:
    """Learn from one batch and return its mean loss over all workers; a loss that is no number changes nothing.

    Raises:
        RetryableError: another worker is gone.
    """
    optimiser.clear()
    if batch.mine:  # the last batch may hold fewer rows than there are workers
        with torch.autocast(replica.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = ranker(batch.features)
        # A mean over my rows becomes my part of the mean over the batch.
        loss = ranker.loss(outputs, batch.labels) * (batch.mine / batch.rows)
        loss.backward()
        optimiser.loss.copy_(loss.detach())
    else:
        ranker.sit_out()
    whole = float(optimiser.sum_losses())
    if is_healthy(whole):
        optimiser.step()
    return whole


def _entropy(*parts: int) -> int:
    """Return one seed for each tuple of numbers, negative ones included."""
    return int(np.random.SeedSequence([part % 2**63 for part in parts]).generate_state(1, np.uint64)[0] >> 1)


def _save(job: TrainingJob, ranker: RankerModule, optimiser: RankerOptimiser, at: Position) -> str | None:
    tensors = {_RANKER + name: value for name, value in ranker.state_dict().items()}
    tensors |= {_OPTIMISER + name: value for name, value in optimiser.state().items()}
    return save(job.directory, at, tensors, job.config.checkpoints.keep)


def _restore(ranker: RankerModule, optimiser: RankerOptimiser, file: Path) -> None:
    tensors = load_file(str(file))

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    ranker.load_state_dict(part(_RANKER))
    optimiser.load(part(_OPTIMISER))
