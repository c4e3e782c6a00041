"""What does a ranker answer to ids that it never saw? Nothing random: a row that is neutral, or learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from components.data.training_set import EncodedSplit
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.embedding.table import FieldEmbedding
from components.testing.ranker import example_schema
from components.train.train_ranker.config import Config
from components.train.train_ranker.feed import Batch, Plan, batches
from components.train.train_ranker.optimiser import RankerOptimiser
from features.declaration import FIRST, UNKNOWN, Declaration, FieldSpec, RankerSchema
from tests.registered import RANKERS

ROWS, KNOWN = 4000, 40


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_the_unknown_row_of_every_ranker_starts_neutral(name: str) -> None:
    ranker = build_ranker(RankerConfig.of(name=name), example_schema("like", "love"))
    embedding = ranker.get_submodule("embedding")
    assert isinstance(embedding, FieldEmbedding)
    for first in embedding.offsets.values():
        assert not embedding.weight[first + UNKNOWN].any()


def test_only_gnolr_learns_it_unless_told() -> None:
    shares = {name: Config(ranker=RankerConfig.of(name=name)).shown_unknown for name in RANKERS}
    assert shares == dict.fromkeys(RANKERS, 0.0) | {"gnolr": 0.05}
    assert Config(ranker=RankerConfig.of(name="gnolr"), unknown_share=0).shown_unknown == 0


def split() -> EncodedSplit:
    g = np.random.default_rng(0)
    ids = {"item_id": g.integers(FIRST, FIRST + KNOWN, ROWS), "user_id": g.integers(FIRST, FIRST + KNOWN, ROWS)}
    bags = g.integers(0, FIRST + KNOWN, (ROWS, 4))
    quality = g.normal(0, 1.2, FIRST + KNOWN)
    like = (g.random(ROWS) < 1 / (1 + np.exp(1.3 - quality[ids["item_id"]]))).astype(np.float32)
    return EncodedSplit({**ids, "bag": bags}, {"like": like}, np.arange(ROWS), np.arange(ROWS))


def read(rows: EncodedSplit, rank: int = 0, world: int = 1, after: int = 0, epoch: int = 1) -> list[Batch]:
    plan = Plan(256, 0, 10_000, rank, world, torch.device("cpu"), 0.05, ("bag", "item_id"))
    with batches(rows, plan, epoch, after) as ready:
        return list(ready)


def joined(found: list[Batch], name: str) -> Tensor:
    return torch.cat([batch.features[name] for batch in found])


def test_a_share_of_ids_is_shown_as_unknown_and_padding_stays_padding() -> None:
    rows = split()
    found = read(rows)
    assert 0.03 < (joined(found, "item_id") == UNKNOWN).float().mean() < 0.07
    assert not (joined(found, "user_id") == UNKNOWN).any()
    assert (joined(found, "bag") == 0).sum() == (rows.features["bag"] == 0).sum()
    assert (rows.features["item_id"] >= FIRST).all(), "the rows themselves stay as they are"
    again = read(rows, epoch=2)
    assert (joined(found[:1], "item_id") == UNKNOWN).nonzero().tolist() != (
        joined(again[:1], "item_id") == UNKNOWN
    ).nonzero().tolist()


@pytest.mark.parametrize("world", [2, 3])
def test_workers_see_what_one_would_and_so_does_a_run_that_goes_on(world: int) -> None:
    rows = split()
    whole, parts = read(rows), [read(rows, rank, world) for rank in range(world)]
    for name in rows.features:
        for at, batch in enumerate(whole):
            assert torch.equal(torch.cat([part[at].features[name] for part in parts]), batch.features[name])
        assert torch.equal(joined(read(rows, after=5), name), joined(whole[5:], name))


def trained(rows: EncodedSplit, seed: int, share: float, epochs: int) -> RankerModule:
    """Return a `gnolr` with nothing set, after epochs in which this share of users and items is shown as unknown."""
    schema = RankerSchema(
        declaration=Declaration(feedback=("like",)),
        fields=tuple(
            FieldSpec(name=n, kind="categorical", size=FIRST + KNOWN, table=n) for n in rows.features if n != "bag"
        ),
        base_rates={"like": float(rows.labels["like"].mean())},
        sides={"item_id": "item", "user_id": "user", "genre": "item"},
    )
    torch.manual_seed(seed)
    config = Config(ranker=RankerConfig.of(name="gnolr"), learning_rate=0.005)
    ranker = build_ranker(config.ranker, schema).train()
    optimiser = RankerOptimiser(ranker, config)
    plan = Plan(256, seed, 10_000, 0, 1, torch.device("cpu"), share, ("item_id", "user_id"))
    for epoch in range(1, epochs + 1):
        with batches(rows, plan, epoch) as ready:
            for batch in ready:
                optimiser.clear()
                ranker.loss(ranker(batch.features), batch.labels).backward()  # type: ignore[no-untyped-call]  # torch
                optimiser.step()
    return ranker.eval()


@torch.no_grad()
def new_items(ranker: RankerModule, **fields: int) -> float:
    """Return the mean prediction over all users for an item that training never saw."""
    users = torch.arange(FIRST, FIRST + KNOWN)
    given = {name: torch.full_like(users, value) for name, value in fields.items()}
    return float(ranker({"item_id": torch.full_like(users, UNKNOWN), "user_id": users, **given})["like"].mean())


def test_gnolr_answers_new_items_with_the_rate_whatever_the_seed() -> None:
    rows = split()
    rate, share = float(rows.labels["like"].mean()), Config(ranker=RankerConfig.of(name="gnolr")).shown_unknown
    for seed in range(3):
        assert new_items(trained(rows, seed, share, epochs=6)) == pytest.approx(rate, rel=0.08)
        assert new_items(trained(rows, seed, 0.0, epochs=1)) == pytest.approx(rate, rel=1e-3), "it says nothing unasked"


def test_gnolr_answers_new_items_with_what_their_other_fields_tell() -> None:
    g = np.random.default_rng(0)
    item, user = g.integers(0, KNOWN, 8000), g.integers(0, KNOWN, 8000)
    rates = np.array([0.08, 0.2, 0.4, 0.7])
    like = (g.random(8000) < rates[item % 4]).astype(np.float32)
    ids = {"genre": item % 4 + FIRST, "item_id": item + FIRST, "user_id": user + FIRST}
    rows = EncodedSplit(ids, {"like": like}, np.arange(8000), np.arange(8000))
    ranker = trained(rows, 0, Config(ranker=RankerConfig.of(name="gnolr")).shown_unknown, epochs=6)
    found = [new_items(ranker, genre=genre + FIRST) for genre in range(4)]
    np.testing.assert_allclose(found, rates, atol=0.08)
