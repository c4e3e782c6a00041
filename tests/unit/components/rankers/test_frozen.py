"""Do frozen vectors speak for values that training never held, and change nothing where they are left out?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.data.attach_vectors.component import scaled
from components.data.attach_vectors.config import Config as Attaching
from components.judge.export_onnx.graph import export_graph
from components.judge.export_onnx.parity import compare, require
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.embedding.config import FrozenConfig
from components.rankers.embedding.frozen import FrozenEmbedding, FrozenVectors, folded
from components.rankers.embedding.table import FieldEmbedding
from components.testing.ranker import RankerContract, example_batch, example_schema, labels_of
from features.declaration import FIRST, UNKNOWN, FieldSpec
from registry.serving.model.session import open_session
from tests.content_worlds import ITEMS, KNOWN, WIDTH, content_world, learned

FIELDS = (
    FieldSpec(name="item_id", kind="categorical", size=5, table="item_id", content=3),
    FieldSpec(name="recent", kind="sequence", size=5, table="item_id", length=4, content=3),
    FieldSpec(name="user_id", kind="categorical", size=4, table="user_id"),
)
X = torch.tensor([[1, 0, 0.5], [0.2, 1, 0], [0, 0.3, 1]])
W = torch.tensor([[0.5, -0.1], [0.2, 0.7], [-0.3, 0.4]])


def embedding(**options: Any) -> FrozenEmbedding:
    torch.manual_seed(0)
    return FrozenEmbedding(FIELDS, 2, 0.5, FrozenConfig(embedding_width=2, **options)).eval()


def holding(made: FrozenEmbedding, learned: tuple[int, ...] = (1, 1, 1)) -> FrozenEmbedding:
    """Give the three items X and the map W, and say which of them training held."""
    (table,) = made.content
    assert isinstance(table, FrozenVectors)
    table.take(torch.cat([torch.zeros(FIRST, 3), X]), torch.tensor([1, 1, *learned]))
    with torch.no_grad():
        table.weight.copy_(W)
    return made


def batch(items: list[int], recent: list[list[int]] | None = None) -> dict[str, Tensor]:
    histories = torch.tensor(recent) if recent else torch.zeros(len(items), 0, dtype=torch.int64)
    return {"item_id": torch.tensor(items), "recent": histories, "user_id": torch.full((len(items),), 2)}


class TestContract(RankerContract):
    ranker = FrozenConfig


class TestContractWithoutIds(RankerContract):
    ranker = FrozenConfig

    def config(self) -> RankerConfig:
        return RankerConfig.of("din", embedding="frozen", ids=False)


@torch.no_grad()
def test_projected_vectors_and_their_mean_are_those_of_the_paper() -> None:
    """AlphaRec's linear map, by hand: items, a user as the mean of two of them, cosines and the loss of a pair."""
    made = holding(embedding(ids=False))
    out = made(batch([2, 3, 4], [[2, 3], [0, 0], [0, 0]]))
    items = out.categorical["item_id"]
    torch.testing.assert_close(items, torch.tensor([[0.35, 0.1], [0.3, 0.68], [-0.24, 0.61]]))
    user = out.mean("recent")[0]
    torch.testing.assert_close(user, torch.tensor([0.325, 0.39]))
    cosines = torch.nn.functional.cosine_similarity(items, user[None])
    torch.testing.assert_close(cosines, torch.tensor([0.826599, 0.961263, 0.480493]), atol=1e-6, rtol=0)
    loss = -torch.log_softmax(cosines[[0, 2]] / 0.15, dim=0)[0]
    assert float(loss) == pytest.approx(0.0948759809, abs=1e-6)


@torch.no_grad()
def test_a_value_that_training_never_held_is_what_its_vector_says() -> None:
    made = holding(embedding(), learned=(1, 1, 0))
    cold = made(batch([4])).categorical["item_id"]
    torch.testing.assert_close(cold, X[2:] @ W)
    warm = made(batch([3])).categorical["item_id"]
    torch.testing.assert_close(warm, X[1:2] @ W + made.weight[3])
    silent = made(batch([0, UNKNOWN], [[0, 3], [0, 0]]))
    assert not silent.categorical["item_id"].any() and not silent.sequences["recent"][0, 0].any()
    assert not made(batch([4])).categorical["user_id"].equal(cold), "other tables have their rows alone"


@torch.no_grad()
def test_folded_it_is_one_table_that_says_the_same() -> None:
    made = holding(embedding(), learned=(1, 0, 1))
    plain = made.folded()
    assert type(plain) is FieldEmbedding and [name for name, _ in plain.named_parameters()] == ["weight"]
    given = batch([0, 1, 2, 3, 4], [[2, 3], [4, 0], [0, 0], [1, 2], [3, 3]])
    torch.testing.assert_close(plain(given).stacked, made(given).stacked)
    torch.testing.assert_close(plain(given).sequences["recent"], made(given).sequences["recent"])


def test_only_the_map_learns_and_the_vectors_stay() -> None:
    made = holding(embedding(), learned=(1, 1, 0)).train()
    made(batch([2, 3, 4])).stacked.pow(2).sum().backward()
    (table,) = made.content
    assert isinstance(table, FrozenVectors)
    assert not table.vectors.requires_grad and table.vectors.grad is None
    assert {name for name, _ in made.named_parameters()} == {"weight", "content.0.weight", "content.0.scale"}
    assert made.weight.grad is not None
    assert made.weight.grad[2].any() and not made.weight.grad[4].any(), "a cold value's row learns nothing"
    assert table.weight.grad is not None and table.scale.grad is not None and table.scale.grad != 0


@pytest.mark.parametrize("name", ["dnn", "din"])
def test_with_the_projection_off_it_is_the_vocabulary_to_the_bit(name: str) -> None:
    """Weights drawn, answers, and a step of learning."""
    schema, rows, labels = example_schema("like", "love"), example_batch(50), labels_of("like", "love", rows=50)
    answers = []
    for block in ({"embedding": "vocabulary"}, {"embedding": "frozen", "projection": 0.0}):
        torch.manual_seed(3)
        ranker = build_ranker(RankerConfig.of(name, **block), schema)
        optimiser = torch.optim.Adam(ranker.parameters(), lr=0.01)
        for _ in range(2):
            optimiser.zero_grad()
            ranker.loss(ranker(rows), labels).backward()
            optimiser.step()
        answers.append(ranker(rows)["love"])
    assert torch.equal(*answers)
    torch.manual_seed(3)
    drawn = build_ranker(RankerConfig.of(name, embedding="frozen"), schema)
    torch.manual_seed(3)
    plain = build_ranker(RankerConfig.of(name), schema)
    state = drawn.state_dict()
    assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())


def test_ids_are_dropped_in_training_only() -> None:
    made = holding(embedding(ids_dropped=0.5))
    given = batch([3] * 2000)
    assert made(given).categorical["item_id"].std(dim=0).max() == 0
    vectors = made.train()(given).categorical["item_id"]
    alone = (vectors - (X[1] @ W)).abs().sum(dim=1) < 1e-6
    assert float(alone.float().mean()) == pytest.approx(0.5, abs=0.05)


def test_without_vectors_it_is_refused() -> None:
    fields = (FieldSpec(name="item_id", kind="categorical", size=5, table="item_id"),)
    with pytest.raises(BadInputError, match=r"the training set has none: put attach_vectors between"):
        build_ranker(RankerConfig.of("dnn", embedding="frozen"), example_schema("like", fields=fields))


def test_the_graph_answers_alike_folded_or_not(tmp_path: Path) -> None:
    schema = example_schema("like", "love")
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of("dnn", embedding="frozen", hidden=(4,)), schema).eval()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
        for part in ranker.modules():
            if isinstance(part, FrozenVectors):
                part.vectors[FIRST:] = torch.randn(part.size - FIRST, 4)
    rows = {name: values.numpy() for name, values in example_batch(50).items()}
    for served, file in ((ranker, "whole.onnx"), (folded(ranker), "folded.onnx")):
        export_graph(served, schema, ("like", "love"), tmp_path / file)
        session = open_session(tmp_path / file, "cpu")
        require(compare(ranker, session, schema.fields, ("like", "love"), rows, 1e-5), "the differences")
    assert b"content" not in (tmp_path / "folded.onnx").read_bytes()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are too small for two
    yield
    torch.set_num_threads(threads)


@cache
def found(block: str, shuffled: bool = False, seed: int = 0) -> dict[str, float]:
    """Return what a ranker as shipped makes of the items' world."""
    world = content_world(seed)
    content = scaled(world.content, world.content[:KNOWN], Attaching())
    if shuffled:
        content = content[np.random.default_rng(9).permutation(ITEMS)]

    @torch.no_grad()
    def give(ranker: RankerModule) -> None:
        for part in ranker.modules():
            if isinstance(part, FrozenVectors):
                part.vectors[FIRST:] = torch.from_numpy(content)
                part.learned[FIRST + KNOWN :] = 0

    return learned(world, block, {"item_id": np.arange(ITEMS)}, seed, give, WIDTH)


def test_as_shipped_unseen_items_are_ranked_by_their_vectors_and_seen_ones_as_by_their_ids() -> None:
    """Ids know nothing of an unseen item, vectors alone less of a seen one; both together lose nothing of either."""
    ids, both = found('{"name": "dnn"}'), found('{"name": "dnn", "embedding": "frozen"}')
    alone = found('{"name": "dnn", "embedding": "frozen", "ids": false}')
    control = found('{"name": "dnn", "embedding": "frozen"}', shuffled=True)
    assert ids["unseen"] == 0.5 and control["unseen"] < 0.54
    assert both["unseen"] > 0.65 and alone["unseen"] > 0.65
    assert both["seen"] > ids["seen"] - 0.005 and both["tail"] > ids["tail"]
    assert alone["seen"] < both["seen"]
