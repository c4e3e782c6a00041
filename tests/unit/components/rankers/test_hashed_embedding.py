"""Does one table of a fixed size stand for every vocabulary, and do two hash functions tell values apart?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.embedding import hashed as hashed_embedding
from components.rankers.embedding.hashed import HashedEmbedding
from components.rankers.embedding.table import FieldEmbedding
from components.train.ranker_files import load_ranker, write_weights
from features.declaration import FIRST, PADDING, UNKNOWN, FieldSpec, RankerSchema
from tests.registered import COMPOSED, RANKERS
from tests.unit.components.rankers.conftest import widened, without_events

BatchOf = Callable[..., dict[str, Tensor]]
EVERY_COMPOSED = sorted(name for name, path in RANKERS.items() if path == COMPOSED)
VALUES = 5000
ITEM = (FieldSpec(name="item_id", kind="categorical", size=VALUES, table="item_id"),)


def hashed(name: str) -> RankerConfig:
    return RankerConfig.of(name=name, embedding="hashed", buckets=50, hidden=(8, 4))


def build(name: str, schema: RankerSchema) -> RankerModule:
    torch.manual_seed(0)
    ranker = build_ranker(hashed(name), schema)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return ranker.eval()


@pytest.mark.parametrize("rows_wise", [True, False])
def test_an_unknown_value_is_silent_and_teaches_nothing(rows_wise: bool) -> None:
    """Hashed like a value, it would answer with the rows of whatever known values are hashed there."""
    embedding = HashedEmbedding(ITEM, 4, 1.0, 50)
    touched = embedding.learn_by_rows() if rows_wise else None
    vectors = embedding({"item_id": torch.tensor([PADDING, UNKNOWN, FIRST])}).categorical["item_id"]
    assert not vectors[:2].any() and vectors[2].all()
    vectors.sum().backward()  # type: ignore[no-untyped-call]  # torch does not type it
    if touched is None:
        assert embedding.weight.grad is not None
        learning = embedding.weight.grad.abs().sum(dim=1).nonzero().flatten()
        assert set(learning.tolist()) == set(embedding.places(torch.tensor(FIRST)).tolist())


@pytest.mark.parametrize("name", EVERY_COMPOSED)
def test_every_composed_ranker_keeps_its_contract(
    name: str, schema: RankerSchema, batch_of: BatchOf, tmp_path: Path
) -> None:
    ranker, batch = build(name, schema), batch_of(17)
    assert isinstance(ranker.embedding, HashedEmbedding)
    whole = ranker(batch)
    alone, padded = ranker({field: values[4:5] for field, values in batch.items()}), ranker(widened(batch, 6))
    empty = ranker(without_events(batch))
    for output, values in whole.items():
        torch.testing.assert_close(alone[output], values[4:5])
        torch.testing.assert_close(padded[output], values)
        assert torch.isfinite(empty[output]).all()
    labels = {feedback: (torch.arange(64) % 2).float() for feedback in ("like", "love")}
    ranker.loss(ranker(batch_of(64)), labels).backward()
    for parameter_name, parameter in ranker.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name
    write_weights(tmp_path / "weights.safetensors", ranker)
    (tmp_path / "ranker.json").write_text(hashed(name).model_dump_json())
    (tmp_path / "schema.json").write_text(schema.model_dump_json())
    again = load_ranker(tmp_path)
    assert all(torch.equal(again(batch)[output], values) for output, values in whole.items())


def test_the_table_has_its_rows_however_many_values_there_are() -> None:
    fields = (
        FieldSpec(name="item_id", kind="categorical", size=400_000_000, table="item_id"),
        FieldSpec(name="user_id", kind="categorical", size=900_000_000, table="user_id"),
    )
    embedding = HashedEmbedding(fields, width=3, std=0.1, buckets=77)
    assert [(name, tuple(p.shape)) for name, p in embedding.named_parameters()] == [("weight", (77, 3))]
    last = {"item_id": torch.tensor([399_999_999]), "user_id": torch.tensor([899_999_999])}
    assert all(vector.abs().sum() > 0 for vector in embedding(last).categorical.values())


def collisions(places: Tensor) -> Tensor:
    """Return pairs (i, j), i < j, of rows that one function sends to the same place, int64 ``[n, 2]``."""
    same = places.unsqueeze(0) == places.unsqueeze(1)
    return torch.triu(same, diagonal=1).nonzero()


@pytest.mark.parametrize("buckets", [500, 512, 997, 1000, 1024])
def test_places_are_spread_and_the_functions_collide_apart(buckets: int) -> None:
    """Of N(N − 1)/2 pairs, each function joins one in `buckets`, and both together some two in `buckets`²."""
    rows = torch.arange(VALUES)
    places = HashedEmbedding(ITEM, width=2, std=0.1, buckets=buckets).places(rows)
    assert places.shape == (VALUES, 2) and places.min() >= 0 and places.max() < buckets
    pairs = VALUES * (VALUES - 1) / 2
    for k in (0, 1):
        assert len(places[:, k].unique()) > 0.95 * buckets
        assert len(collisions(places[:, k])) == pytest.approx(pairs / buckets, rel=0.05)
    both = places.sort(dim=1).values
    assert len(collisions(both[:, 0] * buckets + both[:, 1])) < 4 * pairs / buckets**2


@pytest.mark.parametrize("functions", [2, 1])
def test_values_that_collide_in_one_function_differ_in_the_sum(functions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control has one function: what collides is one value for the ranker."""
    monkeypatch.setattr(hashed_embedding, "FACTORS", hashed_embedding.FACTORS[:functions])
    embedding = HashedEmbedding(ITEM, width=4, std=1.0, buckets=997)
    pair = collisions(embedding.places(torch.arange(FIRST, VALUES))[:, 0])[:200] + FIRST
    one, other = (embedding({"item_id": pair[:, side]}).categorical["item_id"] for side in (0, 1))
    same = (one == other).all(dim=1)
    assert len(pair) == 200
    assert int(same.sum()) <= 2 if functions == 2 else bool(same.all())


def test_fields_of_one_table_share_vectors_and_tables_do_not(schema: RankerSchema, batch_of: BatchOf) -> None:
    embedding = HashedEmbedding(schema.fields, width=4, std=1.0, buckets=10_000)
    batch = batch_of(1) | {"item_id": torch.tensor([3]), "user_id": torch.tensor([3])}
    out = embedding(batch | {"recent_items": torch.tensor([[3, 0, 0, 0, 0]])})
    assert torch.equal(out.categorical["item_id"], out.sequences["recent_items"][:, 0])
    assert not torch.equal(out.categorical["item_id"], out.categorical["user_id"])


def test_padding_is_silent_and_teaches_nothing(schema: RankerSchema, batch_of: BatchOf) -> None:
    embedding = HashedEmbedding(schema.fields, width=4, std=1.0, buckets=20)
    padding = {name: torch.zeros_like(x) for name, x in batch_of(6).items()}
    out = embedding(padding)
    vectors = [*out.categorical.values(), *out.sequences.values()]
    assert all((v == 0).all() for v in vectors)
    torch.stack([v.sum() for v in vectors]).sum().backward()
    assert embedding.weight.grad is not None and (embedding.weight.grad == 0).all()


def test_vectors_start_as_wide_as_those_of_a_vocabulary() -> None:
    torch.manual_seed(0)
    batch = {"item_id": torch.arange(1, VALUES)}
    spread = [
        embedding(batch).categorical["item_id"].std().item()
        for embedding in (FieldEmbedding(ITEM, 8, 0.5), HashedEmbedding(ITEM, 8, 0.5, 4096))
    ]
    assert spread == pytest.approx([0.5, 0.5], rel=0.05)


def test_it_is_fixed() -> None:
    """Weights of last month must find their rows: the places are part of the model's format."""
    places = HashedEmbedding(ITEM, width=1, std=0.0, buckets=1000).places(torch.tensor([0, 1, 4999]))
    assert places.tolist() == [[101, 759], [678, 476], [452, 731]], "worked out in whole numbers of any size"
