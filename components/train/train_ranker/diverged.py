"""What went wrong when the loss is no number? The step, the task, and the inputs that stand out."""

from __future__ import annotations

import torch
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.tasks import LOGIT, Task

EXPLODED = 1e4
"""A mean loss per row above this is no cross-entropy of anything: an even guess costs 0.69 per feedback."""


def is_healthy(loss: float) -> bool:
    """Return whether training may go on from a mean loss per row."""
    return -EXPLODED < loss < EXPLODED


@torch.no_grad()
def diverged(
    ranker: RankerModule, features: dict[str, Tensor], tasks: tuple[Task, ...], loss: float, epoch: int, step: int
) -> BadInputError:
    """Return the error that ends training.

    Args:
        ranker: as it was when the loss went wrong.
        features: this worker's inputs of the step; empty when another worker met the loss.
        tasks: of the ranker.
        loss: mean loss of the batch.
        epoch: from 1.
        step: of the epoch, from 1.
    """
    parts = [f"training diverged: the loss is {loss:g} in epoch {epoch}, step {step}"]
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
