"""What if every feedback has a network of its own over shared embeddings? The plain baseline."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.config import RankerConfig
from components.rankers.funnel import logit
from components.rankers.parts import DomainPart, Head
from components.rankers.tasks import HIDDEN, LOGIT, Task, tasks_of
from features.declaration import RankerSchema


def answers(logits: Mapping[str, Tensor], tasks: tuple[Task, ...]) -> dict[str, Tensor]:
    """Return probabilities and logits by name; a conditional is the ratio of two feedbacks, at most 1.

    Args:
        logits: float32 ``[B]`` by feedback.
        tasks: see `tasks_of`.
    """
    outputs = {name: torch.sigmoid(z) for name, z in logits.items()}
    for task in tasks:
        if task.given is not None:
            # log σ(a) − log σ(b), spelt with softplus: ONNX would export logsigmoid as log of a σ that underflows.
            ratio = functional.softplus(-logits[task.given]) - functional.softplus(-logits[task.label])
            outputs[task.name] = torch.exp(ratio.clamp(max=0.0))
    return outputs | {name + LOGIT: z for name, z in logits.items()}


def entropy_loss(outputs: dict[str, Tensor], labels: dict[str, Tensor], feedback: tuple[str, ...]) -> Tensor:
    """Return the sum over feedback types of the mean cross-entropy over all rows."""
    losses = [functional.binary_cross_entropy_with_logits(outputs[name + LOGIT], labels[name]) for name in feedback]
    return torch.stack(losses).sum()


class SingleHead(Head):
    """One tower per feedback; nothing above the embeddings and the interaction is shared.

    Args:
        in_features: D, width of x.
        schema: feedback and base rates.
        config: completed config.
        domain: makes the towers.
    """

    def __init__(self, in_features: int, schema: RankerSchema, config: RankerConfig, domain: DomainPart) -> None:
        super().__init__()
        self.feedback = schema.declaration.feedback
        self.tasks = tasks_of(schema.declaration)
        self.towers = nn.ModuleList(
            domain.tower(
                in_features, config.hidden or (), config.dropout or 0.0, bias=logit(schema.base_rates.get(name, 0.5))
            )
            for name in self.feedback
        )

    def forward(self, x: Tensor, route: Tensor) -> dict[str, Tensor]:
        """Predict; see `Head.forward`."""
        pairs = [tower(x, route) for tower in self.towers]
        outputs = answers({name: z for name, (z, _) in zip(self.feedback, pairs, strict=True)}, self.tasks)
        outputs[HIDDEN] = torch.cat([h for _, h in pairs], dim=1)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum of the feedbacks' cross-entropies."""
        return entropy_loss(outputs, labels, self.feedback)
