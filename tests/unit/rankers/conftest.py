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
    FieldSpec(name="recent_items", kind="sequence", size=12, table="item_id", length=5),
    FieldSpec(name="user_id", kind="categorical", size=9, table="user_id"),
)

SIDES = {"genres": "item", "item_id": "item", "popularity": "item", "recent_items": "user", "user_id": "user"}


def make_schema(*feedback: str, funnel: bool = True, fields: tuple[FieldSpec, ...] = FIELDS) -> RankerSchema:
    rates = {name: 0.5 / (i + 1) for i, name in enumerate(feedback)}
    # The user stands for the domain as well, for rankers that need one; rows enough for any number of clusters.
    declaration = Declaration(feedback=feedback, funnel=funnel, domain="user_id")
    return RankerSchema(declaration=declaration, fields=fields, base_rates=rates, sides=SIDES, rows=100_000)


def make_batch(rows: int, history: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Rows with every index from padding to the last, padding at the end of sequences."""
    g = torch.Generator().manual_seed(seed)

    def sequence(size: int, length: int) -> Tensor:
        ids = torch.randint(1, size, (rows, length), generator=g)
        kept = torch.randint(0, length + 1, (rows, 1), generator=g)
        return torch.where(torch.arange(length) < kept, ids, 0)

    return {
        "genres": sequence(7, min(3, history)),
        "item_id": torch.randint(0, 12, (rows,), generator=g),
        "popularity": torch.randn(rows, generator=g),
        "recent_items": sequence(12, history),
        "user_id": torch.randint(0, 9, (rows,), generator=g),
    }


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
