"""What does somebody want who asks for nothing? A feed row's demand, as search rows teach it (UDITSR).

Zhang et al., "Unified Dual-Intent Translation for Joint Modeling of Search and Recommendation", KDD 2024, arXiv
2407.00912, without its graph. A user has an inherent intent u and, in each row, a demand q. A query states q; without
one it is generated from user, item and their queries, and rows that have both teach the generator:

    q̂ = MLP([u; i; Q_u; Q_i])      δ = ‖u + q − i‖² / d      demand = ‖q̂ − q‖² / d over rows with a query

Their pairs of a clicked and a random item are here rows that were clicked and rows that were not: the ranker reads
labels of impressions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.embedding.table import EmbeddedFields, FieldEmbedding, side_by_side
from components.rankers.funnel import logit, weighed, weights_in
from components.rankers.heads.towers import answers, entropy_loss
from components.rankers.tasks import AUXILIARY, HIDDEN, tasks_of
from features.declaration import RankerSchema
from features.ground.errors import did_you_mean
from uditsr.config import UditsrConfig

DEMAND, TRANSLATION = f"{AUXILIARY}demand", f"{AUXILIARY}translation/"
"""Outputs that only the loss reads."""


def distance(user: Tensor, demand: Tensor, item: Tensor) -> Tensor:
    """Return ‖u + q − i‖² / d, ``[B]``, of vectors ``[B, d]``."""
    return (user + demand - item).square().mean(dim=1)


class Uditsr(RankerModule):
    """Translation of users by demands to items, and a small network beside it.

    Args:
        config: names of the three bags of words, widths and weights.
        schema: inputs, sides, feedback and base rates.

    Raises:
        BadInputError: a bag of words is no field, or a side has no other field.
    """

    def __init__(self, config: UditsrConfig, schema: RankerSchema) -> None:
        super().__init__()
        self.config = config
        self.feedback = schema.declaration.feedback
        self.tasks = tasks_of(schema.declaration)
        bags = (config.query, config.past_queries, config.item_queries)
        kinds = {field.name: field.kind for field in schema.fields}
        for name in bags:
            if kinds.get(name) != "sequence":
                raise BadInputError(
                    f"ranker 'uditsr' reads words from {name!r}, which is no bag of the training set"
                    f"{did_you_mean(name, kinds)}: name the field, or add it to the feature service"
                )
        others = [field.name for field in schema.fields if field.name not in bags and field.kind != "elapsed"]
        self.user_fields = tuple(name for name in others if schema.sides.get(name) == "user")
        self.item_fields = tuple(name for name in others if schema.sides.get(name) == "item")
        self.other_fields = tuple(name for name in others if name not in {*self.user_fields, *self.item_fields})
        for side, names in (("user", self.user_fields), ("item", self.item_fields)):
            if not names:
                raise BadInputError(f"ranker 'uditsr' translates users to items, and no field is of the {side}'s side")
        width = config.embedding_width
        self.embedding = FieldEmbedding(schema.fields, width, config.embedding_std)
        wide = {
            field.name: width if field.embedded else self.embedding.numeric.get(field.name, 0)
            for field in schema.fields
        }
        self.user = nn.Linear(sum(wide[name] for name in self.user_fields), width, bias=False)
        self.item = nn.Linear(sum(wide[name] for name in self.item_fields), width, bias=False)
        self.generator = nn.Sequential(nn.Linear(4 * width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width))
        context = sum(wide[name] for name in self.other_fields)
        last = nn.Linear(width, len(self.feedback))
        nn.init.zeros_(last.weight)  # what it starts at is the base rate, less the distance
        with torch.no_grad():
            last.bias.copy_(torch.tensor([logit(schema.base_rates.get(name, 0.5)) for name in self.feedback]))
        self.beside = nn.Sequential(nn.Linear(3 * width + context, width), nn.LeakyReLU(), last)
        self.steepness = nn.Parameter(torch.ones(len(self.feedback)))
        self.near = nn.Parameter(torch.zeros(len(self.feedback)))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict; see `RankerModule.forward`. ``hidden`` is user, demand and item side by side."""
        config, fields = self.config, self.embedding(batch)
        user, item = (
            self.user(side_by_side(fields, self.user_fields)),
            self.item(side_by_side(fields, self.item_fields)),
        )
        asked = fields.mean(config.query)
        known = (fields.masks[config.query].sum(dim=1) > 0).unsqueeze(1)
        past, led = fields.mean(config.past_queries), fields.mean(config.item_queries)
        made = self.generator(torch.cat([user, item, past, led], dim=1))
        demand = torch.where(known, asked, made)
        far = distance(user, demand, item)
        row = torch.cat([user, demand, item, *self._others(fields)], dim=1)
        beside = self.beside(row)
        logits, translated = {}, {}
        for at, name in enumerate(self.feedback):
            near = -functional.softplus(self.steepness[at]) * far
            logits[name] = beside[:, at] + near
            translated[f"{TRANSLATION}{name}"] = self.near[at] + near
        outputs = answers(logits, self.tasks) | translated
        outputs[DEMAND] = known.squeeze(1) * (made - asked.detach()).square().mean(dim=1)
        outputs[HIDDEN] = torch.cat([user, demand, item], dim=1)
        return outputs

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return cross-entropy, what the demand made up misses, and the cross-entropy of the translation alone."""
        weights = weights_in(labels, self.feedback)
        missed = weighed(outputs[DEMAND], weights[0]).mean()
        translation = [
            functional.binary_cross_entropy_with_logits(outputs[f"{TRANSLATION}{name}"], labels[name], weight)
            for name, weight in zip(self.feedback, weights, strict=True)
        ]
        entropy = entropy_loss(outputs, labels, self.feedback)
        extra = self.config.demand_weight * missed + self.config.translation_weight * torch.stack(translation).sum()
        return entropy + extra

    def _others(self, fields: EmbeddedFields) -> list[Tensor]:
        return [side_by_side(fields, self.other_fields)] if self.other_fields else []
