"""What does a ranker answer to ids that it never saw? Nothing random: a row that is neutral, or learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from components.rankers.build import build_ranker
from components.rankers.config import RANKERS, RankerConfig
from components.rankers.embedding import FieldEmbedding
from components.testing_rankers import example_schema
from components.train_ranker.config import Config
from components.train_ranker.feed import Batch, Plan, batches
from components.train_ranker.optimiser import RankerOptimiser
from components.training_set import EncodedSplit
from features.declaration import FIRST, UNKNOWN, Declaration, FieldSpec, RankerSchema

ROWS, KNOWN = 4000, 40


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_the_unknown_row_of_every_ranker_starts_neutral(name: str) -> None:
    ranker = build_ranker(RankerConfig(name=name), example_schema("like", "love"))
    embedding = ranker.get_submodule("embedding")
    assert isinstance(embedding, FieldEmbedding)
    for first in embedding.offsets.values():
        assert not embedding.weight[first + UNKNOWN].any()


def test_only_gnolr_learns_it_unless_told() -> None:
    shares = {name: Config(ranker=RankerConfig(name=name)).shown_unknown for name in RANKERS}
    assert shares == dict.fromkeys(RANKERS, 0.0) | {"gnolr": 0.02}
    assert Config(ranker=RankerConfig(name="gnolr"), unknown_share=0).shown_unknown == 0


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


def unseen(seed: int, share: float) -> float:
    """Return the mean prediction of a new item, which differs from the rate when its row is random."""
    rows = split()
    schema = RankerSchema(
        declaration=Declaration(feedback=("like",)),
        fields=tuple(
            FieldSpec(name=n, kind="categorical", size=FIRST + KNOWN, table=n) for n in ("item_id", "user_id")
        ),
        base_rates={"like": float(rows.labels["like"].mean())},
        sides={"item_id": "item", "user_id": "user"},
    )
    torch.manual_seed(seed)
    config = Config(ranker=RankerConfig(name="gnolr"), learning_rate=0.005)
    ranker = build_ranker(config.ranker, schema).train()
    optimiser = RankerOptimiser(ranker, config)
    plan = Plan(256, seed, 10_000, 0, 1, torch.device("cpu"), share, ("item_id", "user_id"))
    for epoch in range(1, 7):
        with batches(rows, plan, epoch) as ready:
            for batch in ready:
                optimiser.clear()
                ranker.loss(ranker(batch.features), batch.labels).backward()  # type: ignore[no-untyped-call]  # torch
                optimiser.step()
    users = torch.arange(FIRST, FIRST + KNOWN)
    with torch.no_grad():
        return float(ranker.eval()({"item_id": torch.full_like(users, UNKNOWN), "user_id": users})["like"].mean())


def test_gnolr_answers_new_items_with_the_rate_whatever_the_seed() -> None:
    rate = float(split().labels["like"].mean())
    share = Config(ranker=RankerConfig(name="gnolr")).shown_unknown
    learned, neutral = (max(abs(unseen(seed, s) - rate) for seed in (0, 1, 2)) for s in (share, 0.0))
    assert learned < 0.1
    assert learned < neutral
