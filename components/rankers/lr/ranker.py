"""Logistic regression: how far does a linear model get? The anchor that proves labels, split and encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.rankers.base import RankerModule
from components.rankers.embedding.table import FieldEmbedding
from components.rankers.funnel import logit
from components.rankers.heads.towers import answers, entropy_loss
from components.rankers.lr.config import LrConfig
from components.rankers.tasks import HIDDEN, tasks_of
from features.declaration import RankerSchema


class LogisticRegression(RankerModule):
    """One weight per categorical value and feedback, bags and histories averaged, one weight per number.

    The weights of T feedback types are the columns of a table of width T, and no two fields share
    weights. Conditionals are the ratio of two predictions, at most 1.
    """

    jagged = True

    def __init__(self, config: LrConfig, schema: RankerSchema) -> None:
        super().__init__()
        self.feedback = schema.declaration.feedback
        self.tasks = tasks_of(schema.declaration)
        self.embedding = FieldEmbedding(schema.fields, width=len(self.feedback), std=0.0, shared=False)
        self.slopes = nn.Parameter(torch.zeros(sum(self.embedding.numeric.values()), len(self.feedback)))
        rates = [schema.base_rates.get(name, 0.5) for name in self.feedback]
        self.bias = nn.Parameter(torch.tensor([logit(rate) for rate in rates], dtype=torch.float32))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict.

        Args:
            batch: one tensor per field of the schema, see `FieldEmbedding.forward`.

        Returns:
            float32 ``[B]`` probabilities per feedback and conditional, ``<feedback>_logit`` for the loss,
            and ``hidden`` ``[B, F·T]``: what each of F fields adds to each of T logits.
        """
        fields = self.embedding(batch)
        parts = list(fields.categorical.values())
        parts += [fields.mean(field.name) for field in self.embedding.embedded if field.kind == "sequence"]
        slopes = self.slopes.split(list(self.embedding.numeric.values()))
        parts += [x @ slope for x, slope in zip(fields.numeric.values(), slopes, strict=True)]
        contributions = torch.stack(parts, dim=1)  # [B, F, T]
        logits = contributions.sum(dim=1) + self.bias
        by_name = {name: logits[:, t] for t, name in enumerate(self.feedback)}
        outputs = answers(by_name, self.tasks)
        outputs[HIDDEN] = contributions.flatten(start_dim=1)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the sum over feedback types of the mean cross-entropy over all rows."""
        return entropy_loss(outputs, labels, self.feedback)
