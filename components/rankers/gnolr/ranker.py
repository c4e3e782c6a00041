"""GNOLR: how do ordered feedbacks share one embedding space, in which retrieval and ranking agree?

Zhang et al., KDD 2025, arXiv 2505.20900; the formulas are in `components.rankers.gnolr.ordinal`. User and item
meet in nothing but T cosines, so the score of the deepest feedback is one inner product of
``[√γ_1 e^1, …, √γ_T e^T]`` of the user with that of the item.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.distributed import gathered
from components.rankers.embedding.table import FieldEmbedding, side_by_side
from components.rankers.funnel import weighed, weights_in
from components.rankers.gnolr.config import Contrast, GnolrConfig
from components.rankers.gnolr.contrast import ItemInputs, contrast_losses, halves
from components.rankers.gnolr.ordinal import categories, nested_logits, nested_losses, scales, thresholds
from components.rankers.heads.towers import answers
from components.rankers.tasks import AUXILIARY, HIDDEN, LOGIT, tasks_of
from components.rankers.tower import exact
from features.declaration import UNKNOWN, RankerSchema

VIEWS = AUXILIARY + "views"
"""Output with two views of some items."""
_LEAST_SQUARE = 1e-8
_QUICK = 3.0
"""How many times faster than a weight the say of unseen items learns: it starts at nothing, and ends where it helps."""


class SideNetworks(nn.Module):
    """One multi-layer perceptron per feedback over one side's fields, each ending in a vector of length 1.

    Linear → dropout → LeakyReLU per layer, the last layer linear; torch's own initialisation, as published.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], dropout: float, feedback: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(_network(in_features, hidden, dropout) for _ in range(feedback))

    def forward(self, x: Tensor) -> Tensor:
        """Return sub-embeddings, float32 ``[B, T, d]``, each of length 1; zero stays zero.

        Args:
            x: float32 ``[B, D]``.
        """
        vectors = torch.stack([exact(network(x)) for network in self.networks], dim=1)
        # Inside the root, so that neither the value nor the gradient of a zero vector is NaN.
        return vectors * torch.rsqrt(vectors.square().sum(dim=2, keepdim=True) + _LEAST_SQUARE)


class Gnolr(RankerModule):
    """Nested ordinal regression on category-specific sub-embeddings of a user side and an item side.

    The side of a field is `RankerSchema.sides`; fields of the request (context, domain) are known when a
    user asks and join the user's side. Histories and bags enter as means, numbers as they are. Where the
    feedback is no funnel, the probability of a feedback is that of it or a deeper one, and the thresholds
    start from each feedback's own rate.

    An item that training never saw has a vector of length 0 at the start, so that the answer is the base rate: a
    vector of length 1 would point somewhere, and where is a matter of the seed. What its other fields tell gets the
    length that training, which shows some items as unknown, finds to be worth.

    With a `contrast`, training also compares two halves of the fields of the batch's items; no other answer and no
    graph has any of it.

    Raises:
        BadInputError: a side has no field, base rates have no order, γ breaks it, or an item of a contrast has one
            field.
    """

    one_effect = True
    jagged = True
    thresholds: Tensor
    gamma: Tensor

    def __init__(self, config: GnolrConfig, schema: RankerSchema) -> None:
        super().__init__()
        self.feedback = schema.declaration.feedback
        self.tasks = tasks_of(schema.declaration)
        self.item_fields = _side_fields(schema, "item")
        _side_fields(schema, "user")
        others = (f for f in schema.fields if f.name not in self.item_fields and f.kind != "elapsed")
        self.user_fields = tuple(field.name for field in others)
        a = thresholds(self.feedback, schema.base_rates)
        self.register_buffer("thresholds", torch.tensor(a, dtype=torch.float32))
        gamma = scales(self.feedback, a, config.gamma)
        self.register_buffer("gamma", torch.tensor(gamma, dtype=torch.float32))
        width = config.embedding_width
        self.embedding = FieldEmbedding(schema.fields, width, config.embedding_std)
        self.item_id = schema.declaration.item if schema.declaration.item in self.embedding.offsets else None
        self.unseen = nn.Parameter(torch.zeros(len(self.feedback))) if self.item_id in self.item_fields else None
        self.contrast: Contrast | None = config.contrast if config.contrast and config.contrast.weight else None
        self.inputs = _item_inputs(schema, self.item_fields, self.item_id) if self.contrast else None
        numeric = self.embedding.numeric
        self.user, self.item = (
            SideNetworks(
                sum(numeric.get(name, width) for name in names),
                config.hidden,
                config.dropout,
                len(self.feedback),
            )
            for names in (self.user_fields, self.item_fields)
        )

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict.

        Args:
            batch: one tensor per field of the schema, see `FieldEmbedding.forward`.

        Returns:
            float32 ``[B]`` probabilities per feedback and conditional; ``<feedback>_logit``, z_c; ``hidden``
            ``[B, 2·T·d]``: the user's unified embedding, then the item's; in training with a `contrast` also two views
            of some items, float32 ``[2, T, n, d]``, which only the loss reads.
        """
        outputs = self.met(*self._sub_embeddings(batch))
        if self.training and self.inputs is not None:
            outputs[VIEWS] = self._views(self.inputs, self.inputs.distinct(batch))
        return outputs

    def met(self, user: Tensor, item: Tensor) -> dict[str, Tensor]:
        """Return what `forward` answers.

        Args:
            user: e_u, float32 ``[B, T, d]``, or ``[1, T, d]`` of the one user that all rows have.
            item: e_i, float32 ``[B, T, d]``.
        """
        z = nested_logits((user * item).sum(dim=2), self.gamma, self.thresholds)
        outputs = answers({name: z[:, c] for c, name in enumerate(self.feedback)}, self.tasks)
        users, items = self._unified(user), self._unified(item)
        outputs[HIDDEN] = torch.cat([users.expand(items.shape[0], -1), items], dim=1)
        return outputs

    def unified_embeddings(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the vectors of users and of items whose inner product is Σ_j γ_j · cos_j.

        Minus the last threshold that is the logit of the deepest feedback, so the nearest items by inner
        product are the best ranked. A user's vector depends on the user side of the row only, an item's on
        the item side only.

        Args:
            batch: see `forward`.

        Returns:
            float32 ``[B, T·d]`` of the rows' users, and of their items, both scaled by √γ_j.
        """
        user, item = self._sub_embeddings(batch)
        return self._unified(user), self._unified(item)

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the nested negative log-likelihood, summed over sub-tasks, mean over rows.

        The sub-tasks of a row are one likelihood, so it counts with the mean of its feedback's weights. A contrast adds
        the mean over items and feedback of what their views tell; it is of the whole batch, on every worker.
        """
        nested = self._nested_loss(outputs, labels)
        if self.contrast is None or VIEWS not in outputs or not outputs[VIEWS].shape[2]:
            return nested
        one, other = outputs[VIEWS]
        return nested + self.contrast.weight * contrast_losses(one, other, self.contrast.temperature).mean()

    def sit_out(self) -> None:
        """Let the other workers gather their items."""
        if self.inputs is not None:
            gathered(self.inputs.none(self.thresholds.device))

    def _nested_loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        z = torch.stack([outputs[name + LOGIT] for name in self.feedback], dim=1)
        k = categories(torch.stack([labels[name] for name in self.feedback], dim=1))
        losses = nested_losses(z, k)
        weights = weights_in(labels, self.feedback)
        if all(weight is None for weight in weights):
            return losses.mean()
        each = [torch.ones_like(losses) if weight is None else weight for weight in weights]
        return weighed(losses, torch.stack(each).mean(dim=0)).mean()

    def diagnostics(self) -> dict[str, float]:
        """Return the least and the largest probability that thresholds and γ allow each feedback."""
        reach = torch.cumsum(self.gamma, dim=0)
        least, most = torch.sigmoid(-reach - self.thresholds), torch.sigmoid(reach - self.thresholds)
        pairs = zip(self.feedback, least.tolist(), most.tolist(), strict=True)
        return {f"{name}_{end}": p for name, low, high in pairs for end, p in (("least", low), ("most", high))}

    def _sub_embeddings(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return e_u and e_i, float32 ``[B, T, d]``."""
        fields = self.embedding(batch)
        user, item = (
            self.user(side_by_side(fields, self.user_fields)),
            self.item(side_by_side(fields, self.item_fields)),
        )
        return user, self.seen(item, batch)

    def _views(self, inputs: ItemInputs, items: Tensor) -> Tensor:
        """Return float32 ``[2, T, n, d]``: what one half of the fields of items makes of them, and what the other."""
        vectors = side_by_side(self.embedding(inputs.batch(items)), self.item_fields)
        first = halves(items, len(self.item_fields))
        width = self.embedding.width
        widths = [self.embedding.numeric.get(name, width) for name in self.item_fields]
        shown = first.repeat_interleave(torch.tensor(widths, device=first.device))
        views: Tensor = self.item(torch.cat([vectors * shown, vectors * ~shown]))
        return views.unflatten(0, (2, len(items))).transpose(1, 2)

    def seen(self, item: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return e_i with the length that an item which training never saw is worth."""
        if self.unseen is None or self.item_id is None:
            return item
        known = (batch[self.item_id] != UNKNOWN).to(item.dtype).unsqueeze(1)
        return item * (known + (1.0 - known) * _QUICK * self.unseen).unsqueeze(2)

    def _unified(self, vectors: Tensor) -> Tensor:
        """Return float32 ``[B, T·d]``: sub-embeddings scaled by √γ, side by side."""
        return (vectors * self.gamma.sqrt().unsqueeze(1)).flatten(start_dim=1)


def _network(in_features: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for narrow, wide in pairwise((in_features, *hidden)):
        layers += [nn.Linear(narrow, wide), nn.Dropout(dropout), nn.LeakyReLU()]
    return nn.Sequential(*layers[:-2])  # the last layer stays linear


def _item_inputs(schema: RankerSchema, names: Sequence[str], item: str | None) -> ItemInputs:
    by_name = {field.name: field for field in schema.fields}
    others = tuple(field for field in schema.fields if field.name not in names)
    return ItemInputs(tuple(by_name[name] for name in names), others, item if item in names else None)


def _side_fields(schema: RankerSchema, side: str) -> tuple[str, ...]:
    names = tuple(field.name for field in schema.fields if schema.sides.get(field.name) == side)
    if not names:
        raise BadInputError(
            f"ranker 'gnolr' compares a user with an item, and the training set has no field of the {side}: "
            f"drop fewer features, build the training set again, or choose another ranker"
        )
    return names
