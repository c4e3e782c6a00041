"""How does each feedback answer from an input of its own? One tower per feedback, whatever feeds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.config import PartConfig
from components.rankers.funnel import chain, logit, weights_in
from components.rankers.parts import DomainPart
from components.rankers.tasks import HIDDEN, LOGIT, Task, tasks_of
from features.declaration import RankerSchema, conditional_name


def answers(logits: Mapping[str, Tensor], tasks: tuple[Task, ...]) -> dict[str, Tensor]:
    """Return probabilities and logits by name; a conditional is the ratio of two feedbacks, at most 1."""
    outputs = {name: torch.sigmoid(z) for name, z in logits.items()}
    for task in tasks:
        if task.given is not None:
            # log σ(a) − log σ(b), spelt with softplus: ONNX would export logsigmoid as log of a σ that underflows.
            ratio = functional.softplus(-logits[task.given]) - functional.softplus(-logits[task.label])
            outputs[task.name] = torch.exp(ratio.clamp(max=0.0))
    return outputs | {name + LOGIT: z for name, z in logits.items()}


def steps_of(feedback: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the logits of a funnel's chain are of: the first feedback, then each step given the one before."""
    return (feedback[0], *(conditional_name(deep, near) for near, deep in pairwise(feedback)))


def chained(logits: Sequence[Tensor], feedback: tuple[str, ...]) -> dict[str, Tensor]:
    """Return probabilities and logits by name of a funnel whose logits are of `steps_of`."""
    steps = steps_of(feedback)
    outputs = dict(zip(feedback, chain(logits), strict=True))
    outputs |= {name: torch.sigmoid(z) for name, z in zip(steps[1:], logits[1:], strict=True)}
    return outputs | {name + LOGIT: z for name, z in zip(steps, logits, strict=True)}


def entropy_loss(outputs: dict[str, Tensor], labels: dict[str, Tensor], feedback: tuple[str, ...]) -> Tensor:
    """Return the sum over feedback types of the mean over all rows of weight times cross-entropy."""
    losses = [
        functional.binary_cross_entropy_with_logits(outputs[name + LOGIT], labels[name], weight)
        for name, weight in zip(feedback, weights_in(labels, feedback), strict=True)
    ]
    return torch.stack(losses).sum()


def per_feedback(x: Tensor | tuple[Tensor, ...], count: int) -> Sequence[Tensor]:
    """Return what each feedback's tower reads: of a backbone its own, else the same tensor, or what stands for one."""
    return x if isinstance(x, tuple) else [x] * count


def split_hidden(hidden: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the widths below the towers and of the towers: the last layer is the tower's, a lone one is both."""
    widths = tuple(hidden)
    return widths[:-1] or widths, widths[-1:]


class FeedbackTowers(nn.ModuleList):
    """One tower per feedback over an input per feedback."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        schema: RankerSchema,
        config: PartConfig,
        domain: DomainPart,
    ) -> None:
        feedback = schema.declaration.feedback
        super().__init__(
            domain.tower(in_features, hidden, config.dropout, bias=logit(schema.base_rates.get(name, 0.5)))
            for name in feedback
        )
        self.feedback = feedback
        self.tasks = tasks_of(schema.declaration)

    def forward(self, inputs: Sequence[Tensor], route: Tensor) -> dict[str, Tensor]:
        """Predict; see `Head.forward`."""
        pairs = [tower(x, route) for tower, x in zip(self, inputs, strict=True)]
        outputs = answers({name: z for name, (z, _) in zip(self.feedback, pairs, strict=True)}, self.tasks)
        outputs[HIDDEN] = torch.cat([hidden for _, hidden in pairs], dim=1)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum over feedback types of the mean cross-entropy over all rows."""
        return entropy_loss(outputs, labels, self.feedback)
