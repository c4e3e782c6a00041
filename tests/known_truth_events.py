"""What does a world look like in which it counts how recently something happened? Seeded events with their times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema

CATEGORIES = 4
EVENTS = 5
DAY = 86_400.0
SCHEMA = RankerSchema(
    declaration=Declaration(feedback=("click",)),
    fields=(
        FieldSpec(name="item_id", kind="categorical", size=FIRST + CATEGORIES, table="item_id"),
        FieldSpec(
            name="recent", kind="sequence", size=FIRST + CATEGORIES, table="item_id", length=EVENTS, timed_by="times"
        ),
        FieldSpec(name="times", kind="elapsed", length=EVENTS),
    ),
    base_rates={"click": 0.5},
    sides={"item_id": "item", "recent": "user", "times": "user"},
)
LIKELY, UNLIKELY = 0.9, 0.1


@dataclass(frozen=True)
class RecencyWorld:
    """Requests with the events before them.

    Attributes:
        batch: by field; every candidate is a category, every event the category of something bought.
        click: true probability, `LIKELY` or `UNLIKELY`.
        labels: float32 ``[rows]`` click.
    """

    batch: dict[str, Tensor]
    click: Tensor
    labels: dict[str, Tensor]


def recency_world(rows: int, seed: int, recent: bool = True) -> RecencyWorld:
    """Return requests of users of very different pace, some with events every hour, some every few weeks.

    A click is likely when something of the candidate's category was bought within the last day; without `recent`,
    when it was bought at all. The pace differs, so the order of events does not tell their time.

    Args:
        rows: number of requests.
        seed: of everything.
        recent: whether time decides.
    """
    g = torch.Generator().manual_seed(seed)
    pace = DAY * torch.exp(torch.rand(rows, 1, generator=g) * 6 - 3)
    times = (pace * -torch.rand(rows, EVENTS, generator=g).log()).cumsum(dim=1)
    category = torch.randint(CATEGORIES, (rows, EVENTS), generator=g)
    candidate = torch.randint(CATEGORIES, (rows,), generator=g)
    near = times < (DAY if recent else torch.inf)
    bought = ((category == candidate.unsqueeze(1)) & near).any(dim=1)
    click = torch.where(bought, LIKELY, UNLIKELY)
    return RecencyWorld(
        batch={"item_id": candidate + FIRST, "recent": category + FIRST, "times": times},
        click=click,
        labels={"click": (torch.rand(rows, generator=g) < click).float()},
    )
