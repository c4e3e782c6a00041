"""Do the exchangeable parts keep padding silent, share what is shared, and survive empty histories?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.embedding.table import FieldEmbedding
from components.rankers.sequences.mean import masked_mean
from components.rankers.tower import Tower
from features.declaration import FieldSpec, RankerSchema


def test_padding_is_zero_and_stays_zero_through_training(
    schema: RankerSchema, batch_of: Callable[..., dict[str, Tensor]]
) -> None:
    torch.manual_seed(0)
    embedding = FieldEmbedding(schema.fields, width=4)
    starts = sorted(set(embedding.offsets.values()))
    optimiser = torch.optim.Adam(embedding.parameters(), lr=0.1, weight_decay=0.01)
    before = embedding.weight.detach().clone()
    for seed in range(3):
        out = embedding(batch_of(64, seed=seed))
        loss = sum((v + 1).pow(2).sum() for v in [*out.categorical.values(), *out.sequences.values()])
        optimiser.zero_grad()
        torch.as_tensor(loss).backward()
        optimiser.step()
    assert (embedding.weight[starts] == 0).all()
    others = [i for i in range(len(before)) if i not in starts]
    assert (embedding.weight[others] != before[others]).any(dim=1).all(), "every other row learns"


def test_a_padding_row_that_is_not_zero_would_still_be_silent(
    schema: RankerSchema, batch_of: Callable[..., dict[str, Tensor]]
) -> None:
    embedding = FieldEmbedding(schema.fields, width=4)
    batch = batch_of(32)
    before = embedding(batch)
    with torch.no_grad():
        embedding.weight[sorted(set(embedding.offsets.values()))] = 99.0
    after = embedding(batch)
    for name, vectors in before.categorical.items():
        assert torch.equal(vectors, after.categorical[name])
    for name, vectors in before.sequences.items():
        assert torch.equal(vectors, after.sequences[name])


def test_fields_share_rows_only_when_they_share_a_table(schema: RankerSchema) -> None:
    shared, apart = FieldEmbedding(schema.fields, 4), FieldEmbedding(schema.fields, 4, shared=False)
    assert shared.offsets["item_id"] == shared.offsets["recent_items"]
    assert shared.weight.shape[0] == 7 + 12 + 4 + 9
    assert apart.offsets["item_id"] != apart.offsets["recent_items"]
    assert apart.weight.shape[0] == 7 + 12 + 12 + 4 + 9
    batch = {
        "genres": torch.zeros(1, 0, dtype=torch.int64),
        "item_id": torch.tensor([3]),
        "popularity": torch.zeros(1),
        "recent_items": torch.tensor([[3]]),
        "recent_likes": torch.tensor([[1]]),
        "recent_times": torch.zeros(1, 1),
        "taste": torch.zeros(1, 3),
        "user_id": torch.tensor([3]),
    }
    out = shared(batch)
    assert torch.equal(out.categorical["item_id"], out.sequences["recent_items"][:, 0])
    assert not torch.equal(out.categorical["item_id"], out.categorical["user_id"])


def test_tables_of_two_sizes_are_refused() -> None:
    fields = (
        FieldSpec(name="item_id", kind="categorical", size=12, table="item_id"),
        FieldSpec(name="recent", kind="sequence", size=13, table="item_id", length=2),
    )
    with pytest.raises(BadInputError, match="'item_id' and 'recent' share the table 'item_id'"):
        FieldEmbedding(fields, 4)


def test_only_numbers_need_no_table() -> None:
    out = FieldEmbedding((FieldSpec(name="x", kind="numeric"),), 4)({"x": torch.ones(3)})
    assert out.categorical == {}
    assert torch.equal(out.numeric["x"], torch.ones(3, 1))


@given(
    events=st.lists(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=2), max_size=6),
    padding=st.integers(0, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_mean_ignores_order_and_padding(events: list[list[float]], padding: int, seed: int) -> None:
    vectors = torch.tensor([*events, *[[0.0, 0.0]] * padding]).reshape(1, -1, 2)
    mask = torch.tensor([[1.0] * len(events) + [0.0] * padding])
    expected = torch.tensor(events).mean(dim=0) if events else torch.zeros(2)
    pooled = masked_mean(vectors, mask)
    assert pooled.shape == (1, 2)
    torch.testing.assert_close(pooled[0], expected, atol=1e-5, rtol=1e-5)
    order = torch.randperm(vectors.shape[1], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(masked_mean(vectors[:, order], mask[:, order]), pooled, atol=1e-5, rtol=1e-5)


def test_a_tower_starts_at_its_bias() -> None:
    z, hidden = Tower(6, (5, 3), bias=-1.5)(torch.zeros(4, 6))
    assert hidden.shape == (4, 3)
    assert torch.equal(z, torch.full((4,), -1.5))
