"""What does a world look like whose true probabilities are known? Seeded draws as tensors, without files or engines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema

PEOPLE = ITEMS = 200


@dataclass(frozen=True)
class FunnelWorld:
    """Impressions of a funnel with the probabilities they were drawn from.

    Attributes:
        batch: int64 ``[rows]`` user and item.
        click: true probability of a click.
        conversion: true probability of a conversion given a click, on every impression, clicked or not.
        labels: float32 ``[rows]`` click and conversion.
    """

    batch: dict[str, Tensor]
    click: Tensor
    conversion: Tensor
    labels: dict[str, Tensor]

    def schema(self, *feedback: str, among: Tensor | None = None) -> RankerSchema:
        """Return what a ranker of this feedback must know, with base rates over all rows or `among` some."""
        rows = torch.ones_like(self.click, dtype=torch.bool) if among is None else among
        return RankerSchema(
            declaration=Declaration(feedback=feedback),
            fields=tuple(
                FieldSpec(name=name, kind="categorical", size=FIRST + size, table=name)
                for name, size in (("item_id", ITEMS), ("user_id", PEOPLE))
            ),
            base_rates={name: float(self.labels[name][rows].mean()) for name in feedback},
            rows=int(rows.sum()),
        )


def funnel_world(rows: int, seed: int, draw: int, selection: float = 1.0) -> FunnelWorld:
    """Return impressions of users and items whose match decides both steps of a funnel.

    Clicks are selected: what is liked is both clicked and bought more often, so clicked impressions are not like the
    others, and most items are hardly ever clicked.

    Args:
        rows: number of impressions.
        seed: of the users and items.
        draw: of the impressions and labels.
        selection: how strongly the match decides a click; 0 clicks at random.
    """
    g = torch.Generator().manual_seed(seed)
    people, items = torch.randn(PEOPLE, 2, generator=g), torch.randn(ITEMS, 2, generator=g)
    quality = torch.randn(ITEMS, generator=g)
    g = torch.Generator().manual_seed(1_000_003 * (draw + 1) + seed)
    user, item = torch.randint(PEOPLE, (rows,), generator=g), torch.randint(ITEMS, (rows,), generator=g)
    match = 0.5 * (people[user] * items[item]).sum(dim=1) + quality[item]
    click, conversion = torch.sigmoid(selection * match - 2.2), torch.sigmoid(match - 1.5)
    clicked = torch.rand(rows, generator=g) < click
    converted = clicked & (torch.rand(rows, generator=g) < conversion)
    return FunnelWorld(
        batch={"item_id": item + FIRST, "user_id": user + FIRST},
        click=click,
        conversion=conversion,
        labels={"click": clicked.float(), "conversion": converted.float()},
    )


def excess_loss(truth: Tensor, predicted: Tensor) -> float:
    """Return the log-loss of `predicted` against true probabilities minus that of the truth itself: 0 is perfect."""
    loss = torch.nn.functional.binary_cross_entropy
    return float(loss(predicted, truth) - loss(truth, truth))
