"""Does exact retrieval find what the ranker would have ranked highest?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.gnolr.ranker import Gnolr
from features.declaration import Declaration, FieldSpec, RankerSchema
from features.ground.errors import BadInputError
from registry.serving.answers import retrieval
from registry.serving.answers.retrieval import retrieve
from registry.serving.model.separable import unified_halves

USERS, ITEMS = 15, 40


@given(
    shape=st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(1, 3)),
    k=st.integers(1, 9),
    seed=st.integers(0, 999),
)
@settings(max_examples=80, deadline=None)
def test_it_is_the_full_sort_and_ties_go_to_the_smaller_row(shape: tuple[int, int, int], k: int, seed: int) -> None:
    rows, items, width = shape
    k = min(k, items)
    rng = np.random.default_rng(seed)
    # Whole numbers: products are exact, and many are equal.
    users = rng.integers(-1, 2, (rows, width)).astype(np.float32)
    vectors = rng.integers(-1, 2, (items, width)).astype(np.float32)
    found = retrieve(users, vectors, k)
    scores = users @ vectors.T
    for row in range(rows):
        expected = sorted(range(items), key=lambda item, row=row: (-scores[row, item], item))[:k]
        assert found.items[row].tolist() == expected
        assert found.scores[row].tolist() == scores[row, expected].tolist()
    assert (found.items.dtype, found.scores.dtype) == (np.int64, np.float32)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, 6)).astype(np.float32) for n in (23, 50))
    whole = retrieve(users, items, 7)
    monkeypatch.setattr(retrieval, "CELLS", 120)  # two users at a time
    chunked = retrieve(users, items, 7)
    assert np.array_equal(chunked.items, whole.items)
    np.testing.assert_allclose(chunked.scores, whole.scores, rtol=1e-5)


def gnolr() -> Gnolr:
    """A ranker of three feedbacks whose scales differ, with a request field on the user's side."""
    fields = (
        FieldSpec(name="band", kind="categorical", size=4, table="band"),
        FieldSpec(name="item_id", kind="categorical", size=ITEMS + 1, table="item_id"),
        FieldSpec(name="recent_items", kind="sequence", size=ITEMS + 1, table="item_id", length=4),
        FieldSpec(name="user_id", kind="categorical", size=USERS + 1, table="user_id"),
    )
    schema = RankerSchema(
        declaration=Declaration(feedback=("click", "cart", "pay")),
        fields=fields,
        base_rates={"click": 0.4, "cart": 0.1, "pay": 0.05},
        sides={"item_id": "item", "recent_items": "user", "user_id": "user"},
    )
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of(name="gnolr", hidden=(16, 8), gamma=(5.0, 0.4, 0.7)), schema)
    assert isinstance(ranker, Gnolr)
    return ranker.eval()


def rows_of(users: Tensor, items: Tensor) -> dict[str, Tensor]:
    """Return impressions: what belongs to a user follows from the user, whatever the item."""
    recent = (users.unsqueeze(1) * torch.tensor([3, 5, 7, 11])) % ITEMS + 1
    return {"band": users % 3 + 1, "item_id": items + 1, "recent_items": recent, "user_id": users + 1}


@torch.no_grad()
def test_retrieval_and_ranking_agree() -> None:
    ranker = gnolr()
    everyone, catalogue = torch.arange(USERS), torch.arange(ITEMS)
    cross = rows_of(everyone.repeat_interleave(ITEMS), catalogue.repeat(USERS))
    ranked = ranker(cross)["pay_logit"].reshape(USERS, ITEMS)
    # Users once with any item, items once with any user.
    users, _ = ranker.unified_embeddings(rows_of(everyone, torch.zeros_like(everyone)))
    _, items = ranker.unified_embeddings(rows_of(torch.zeros_like(catalogue), catalogue))
    found = retrieve(users.numpy(), items.numpy(), 10)
    assert np.array_equal(found.items, ranked.topk(10, dim=1).indices.numpy())
    logits = found.scores - float(ranker.thresholds[-1])
    np.testing.assert_allclose(logits, ranked.topk(10, dim=1).values.numpy(), atol=1e-5)

    # Without √γ the search finds others: equal weights are right for equal γ only.
    flat = [v.reshape(-1, 3, 8) / ranker.gamma.sqrt().unsqueeze(1) for v in (users, items)]
    plain = retrieve(flat[0].flatten(1).numpy(), flat[1].flatten(1).numpy(), 10)
    assert not np.array_equal(plain.items, found.items)


@torch.no_grad()
def test_hidden_of_the_served_graph_holds_both_vectors() -> None:
    ranker = gnolr()
    batch = rows_of(torch.arange(USERS), torch.arange(USERS))
    user, item = ranker.unified_embeddings(batch)
    halves = unified_halves(ranker(batch)["hidden"].numpy())
    assert np.array_equal(halves[0], user.numpy())
    assert np.array_equal(halves[1], item.numpy())


@pytest.mark.parametrize(
    ("users", "items", "k", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), 1, "user vectors are 3 wide and item vectors 2"),
        (np.ones((2, 3)), np.ones((4, 3)), 5, "k is 5, must be between 1 and the 4 items"),
        (np.ones((2, 3)), np.ones((4, 3)), 0, "k is 0"),
        (np.ones((2, 3)), np.ones((0, 3)), 1, "the 0 items"),
        (np.ones(3), np.ones((4, 3)), 1, r"user vectors have shape \[3\]"),
        (np.ones((2, 3)), np.array([[1.0, 1, 1], [1, np.nan, 1]]), 1, "the vector of item 1 is not finite"),
        (np.array([[np.inf, 1, 1]]), np.ones((4, 3)), 1, "the vector of user 0 is not finite"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(users: np.ndarray, items: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        retrieve(users.astype(np.float32), items.astype(np.float32), k)


def test_a_hidden_layer_of_odd_width_has_no_halves() -> None:
    with pytest.raises(BadInputError, match=r"hidden has shape \[2, 3\]"):
        unified_halves(np.ones((2, 3), dtype=np.float32))
