"""What did the steps of an epoch lose, and what ends training? A loss that is no number, read at once or one step late.

Whoever reads a number from a device waits until it is there, and meanwhile nobody gives the device more to do. So
where a device computes by itself, a step's loss is read while the step after it runs. What comes of it is the same: a
step without a healthy loss changes no weight, those behind it change none either (`RankerOptimiser.step`), and nobody
reports or keeps anything before every loss up to then was read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.embedding.table import fetch
from components.rankers.tasks import LOGIT, Task
from components.train.train_ranker.feed import Batch

EXPLODED = 1e4
"""A mean loss per row above this is no cross-entropy of anything: an even guess costs 0.69 per feedback."""


def is_healthy(loss: float) -> bool:
    """Return whether training may go on from a mean loss per row."""
    return -EXPLODED < loss < EXPLODED


def healthy(loss: Tensor) -> Tensor:
    """Return float32 ``[]``, 1 where `is_healthy`, else 0, of a loss ``[1]``, without reading it."""
    return (loss.abs() < EXPLODED).to(torch.float32).squeeze()


@dataclass(frozen=True)
class Loss:
    """The mean loss of one step over all workers, on its way here."""

    value: Tensor
    """float32 ``[1]`` on the CPU, to be looked at by `read` alone."""
    copied: torch.cuda.Event | None = None
    """Happens on the device when the value is there; None where it is."""

    @classmethod
    def of(cls, loss: Tensor) -> Loss:
        """Return a copy of a loss, ``[1]``; one that a GPU has yet to compute comes later, and nobody waits."""
        if loss.device.type != "cuda":
            return cls(loss.detach().to("cpu", copy=True))
        value = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
        value.copy_(loss.detach(), non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return cls(value, copied)

    def read(self) -> float:
        """Return the number, when it is there."""
        if self.copied is not None:
            self.copied.synchronize()
        return float(self.value)


class Losses:
    """Adds up what the steps of an epoch lost.

    Args:
        total: sum over the epoch's earlier steps, each loss times its rows.
        late: whether a loss is read when the step after it was given to the device.
        diverged: returns the error that ends training, given a batch and its loss.
    """

    def __init__(self, total: float, late: bool, diverged: Callable[[Batch, float], BadInputError]) -> None:
        self._total, self._late, self._diverged = total, late, diverged
        self._waiting: tuple[Batch, Loss] | None = None

    def add(self, batch: Batch, loss: Loss) -> None:
        """Note what a step lost.

        Raises:
            BadInputError: the loss, or late that of the step before, is no number.
        """
        self._read()
        self._waiting = batch, loss
        if not self._late:
            self._read()

    def total(self) -> float:
        """Return the sum over all steps.

        Raises:
            BadInputError: the loss of the last step is no number.
        """
        self._read()
        return self._total

    def _read(self) -> None:
        if self._waiting is None:
            return
        batch, waiting = self._waiting
        self._waiting = None
        loss = waiting.read()
        if not is_healthy(loss):
            raise self._diverged(batch, loss)
        self._total += loss * batch.rows


@torch.no_grad()
def diverged(
    ranker: RankerModule, features: dict[str, Tensor], tasks: tuple[Task, ...], loss: float, epoch: int, step: int
) -> BadInputError:
    """Return the error that ends training; `features` are empty when another worker met the loss."""
    parts = [f"training diverged: the loss is {loss:g} in epoch {epoch}, step {step}"]
    fetch(ranker, features or None)  # all workers are here, because all know the same loss
    if features:
        ranker.eval()  # neither buffers nor dropout move
        outputs = ranker(features)
        wrong = sorted({task.label for task in tasks if not _finite(outputs, task)})
        parts += [f"no number is predicted for {', '.join(wrong)}"] if wrong else []
        parts += [named] if (named := _outstanding(features)) else []
    return BadInputError(", ".join(parts) + "; lower learning_rate, or look for huge values in the numeric features")


def _finite(outputs: dict[str, Tensor], task: Task) -> bool:
    values = [outputs[name] for name in (task.name, task.label + LOGIT) if name in outputs]
    return all(bool(torch.isfinite(value).all()) for value in values)


def _outstanding(features: dict[str, Tensor]) -> str | None:
    """Return what is known of the float input with the largest value of the batch."""
    sizes = {
        name: float(torch.nan_to_num(values.abs(), nan=torch.inf).max())
        for name, values in sorted(features.items())
        if values.is_floating_point() and values.numel()
    }
    if not sizes:
        return None
    name = max(sizes, key=lambda key: sizes[key])
    values = features[name]
    missing = int((~torch.isfinite(values)).sum())
    finite = values[torch.isfinite(values)]
    spread = (
        f"from {float(finite.min()):g} to {float(finite.max()):g}, mean {float(finite.mean()):g}, "
        if len(finite)
        else ""
    )
    return f"the feature with the largest values is {name!r}: {spread}{missing} of {values.numel()} not finite"
