"""Which inputs do the tests of rankers share? One field of every kind, a funnel of any length."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from features.declaration import Declaration, FieldSpec, RankerSchema

FIELDS = (
    FieldSpec(name="genres", kind="sequence", size=7, table="genres", length=3, pooled=True),
    FieldSpec(name="item_id", kind="categorical", size=12, table="item_id"),
    FieldSpec(name="popularity", kind="numeric"),
    FieldSpec(name="recent_items", kind="sequence", size=12, table="item_id", length=5, timed_by="recent_times"),
    FieldSpec(name="recent_likes", kind="sequence", size=4, table="recent_likes", length=5, timed_by="recent_times"),
    FieldSpec(name="recent_times", kind="elapsed", length=5),
    FieldSpec(name="taste", kind="vector", length=3),
    FieldSpec(name="user_id", kind="categorical", size=9, table="user_id"),
)
STREAM = ("recent_items", "recent_likes", "recent_times")
"""Fields that hold the same events, position by position."""

SIDES = {
    "genres": "item",
    "item_id": "item",
    "popularity": "item",
    "recent_items": "user",
    "recent_likes": "user",
    "recent_times": "user",
    "taste": "user",
    "user_id": "user",
}


def make_schema(*feedback: str, funnel: bool = True, fields: tuple[FieldSpec, ...] = FIELDS) -> RankerSchema:
    rates = {name: 0.5 / (i + 1) for i, name in enumerate(feedback)}
    # The user stands for the domain as well, for rankers that need one; rows enough for any number of clusters.
    declaration = Declaration(feedback=feedback, funnel=funnel, domain="user_id")
    return RankerSchema(declaration=declaration, fields=fields, base_rates=rates, sides=SIDES, rows=100_000)


def make_batch(rows: int, history: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Rows with every index from padding to the last, padding at the end of sequences."""
    g = torch.Generator().manual_seed(seed)

    def lengths(length: int) -> Tensor:
        return torch.randint(0, length + 1, (rows, 1), generator=g)

    def sequence(size: int, length: int, kept: Tensor) -> Tensor:
        ids = torch.randint(1, size, (rows, length), generator=g)
        return torch.where(torch.arange(length) < kept, ids, 0)

    events = lengths(history)
    ago = torch.rand((rows, history), generator=g).cumsum(dim=1) * 86_400
    return {
        "genres": sequence(7, min(3, history), lengths(min(3, history))),
        "item_id": torch.randint(0, 12, (rows,), generator=g),
        "popularity": torch.randn(rows, generator=g),
        "recent_items": sequence(12, history, events),
        "recent_likes": sequence(4, history, events),
        "recent_times": torch.where(torch.arange(history) < events, ago, -1.0),
        "taste": torch.randn((rows, 3), generator=g),
        "user_id": torch.randint(0, 9, (rows,), generator=g),
    }


def widened(batch: dict[str, Tensor], by: int) -> dict[str, Tensor]:
    """The batch with `by` more places of padding in every sequence."""
    more = {f: torch.nn.functional.pad(batch[f], (0, by)) for f in ("genres", *STREAM[:-1])}
    return batch | more | {STREAM[-1]: torch.nn.functional.pad(batch[STREAM[-1]], (0, by), value=-1.0)}


def without_events(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with sequences of length 0."""
    return batch | {f: batch[f][:, :0] for f in ("genres", *STREAM)}


@pytest.fixture
def schema() -> RankerSchema:
    """A funnel of two."""
    return make_schema("like", "love")


@pytest.fixture
def schema_of() -> Callable[..., RankerSchema]:
    """Make a schema with the given feedback."""
    return make_schema


@pytest.fixture
def batch_of() -> Callable[..., dict[str, Tensor]]:
    """Make a batch of rows."""
    return make_batch
