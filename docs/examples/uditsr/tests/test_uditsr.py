"""Does `uditsr` keep the contract of rankers and the paper's terms, and do search rows teach the feed?"""

from functools import cache, cached_property

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from uditsr.config import UditsrConfig
from uditsr.ranker import DEMAND, distance

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.testing.component import HEAVY, imported_by
from components.testing.ranker import RankerKit, example_batch, example_schema
from features.declaration import Declaration, FieldEncoding, RankerSchema
from features.encoding.encoder import Encoder

BAGS = {"query": "genres", "past_queries": "recent_likes", "item_queries": "recent_items"}
"""Fields of the checks that stand for the three bags of words."""


class TestUditsr(RankerKit):
    """The checks of every ranker, and what is particular to this one."""

    ranker = UditsrConfig

    def config(self) -> RankerConfig:
        return RankerConfig.of("uditsr", **BAGS)

    def test_a_row_with_a_query_is_scored_by_it_and_one_without_by_what_is_made_up(self) -> None:
        ranker, batch = self.build(example_schema("click"), moved=True), example_batch(20)
        wide = ranker.config.embedding_width
        other = {**batch, "genres": batch["genres"].flip(0)}
        empty = {**batch, "genres": torch.zeros_like(batch["genres"])}
        demand, others, made = (ranker(rows)["hidden"][:, wide : 2 * wide] for rows in (batch, other, empty))
        asked = (batch["genres"] > 0).any(dim=1)
        assert not torch.equal(demand[asked], others[asked]) and torch.equal(demand[~asked], made[~asked])
        assert (ranker(batch)[DEMAND][~asked] == 0).all() and (ranker(batch)[DEMAND][asked] > 0).all()

    def test_only_the_generator_learns_from_the_demand(self) -> None:
        """Queries pulled towards what is made up of them would meet it at nothing."""
        ranker, batch = self.build(example_schema("click"), moved=True), example_batch(30)
        ranker(batch)[DEMAND].sum().backward()
        first = ranker.embedding.offsets["genres"]
        of_words = ranker.embedding.weight.grad[first : first + 7]
        assert (of_words == 0).all() and ranker.generator[0].weight.grad.abs().sum() > 0

    def test_a_bag_that_is_no_field_is_refused(self) -> None:
        with pytest.raises(BadInputError, match=r"words from 'genre', which is no bag .*did you mean 'genres'"):
            build_ranker(RankerConfig.of("uditsr", **{**BAGS, "query": "genre"}), example_schema("click"))

    @pytest.mark.parametrize("seed", [0, 1])
    def test_one_ranker_of_both_scenes_is_better_than_one_of_each(self, seed: int) -> None:
        rows, judged = world(seed), world(seed + 50, feed=5000, search=5000)
        joint = auc_by_scene(fitted("uditsr", rows, seed), judged)
        feed = auc_by_scene(fitted("uditsr", rows, seed, "feed"), judged)[0]
        search = auc_by_scene(fitted("uditsr", rows, seed, "search"), judged)[1]
        assert joint[0] > feed + 0.04 and joint[1] > search + 0.005, (joint, feed, search)

    def test_it_is_the_queries_that_teach_the_feed(self) -> None:
        """Not without learning from them, not from wrong ones, and not in a ranker that reads them as any bag."""
        rows, judged = world(0), world(50, feed=5000, search=5000)
        joint = auc_by_scene(fitted("uditsr", rows, 0), judged)[0]
        untaught = auc_by_scene(fitted("uditsr", rows, 0, demand_weight=0.0), judged)[0]
        wrong = auc_by_scene(fitted("uditsr", world(0, shuffled=True), 0), judged)[0]
        bag = auc_by_scene(fitted("dnn", rows, 0), judged)[0]
        assert joint > max(untaught, wrong, bag) + 0.02, (joint, untaught, wrong, bag)


def test_distance_and_demand_are_those_worked_out_by_hand() -> None:
    user, made, asked = torch.tensor([[0.2, 0.1]]), torch.tensor([[0.25, 0.1]]), torch.tensor([[0.3, 0.2]])
    shown, other = torch.tensor([[0.5, 0.3]]), torch.tensor([[-0.4, 0.6]])
    assert distance(user, made, shown).item() == pytest.approx(0.00625, abs=1e-8)
    assert distance(user, made, other).item() == pytest.approx(0.44125, abs=1e-7)
    assert 1.5 * (made - asked).square().mean(dim=1).item() == pytest.approx(0.009375, abs=1e-8)


def test_reading_its_config_imports_no_engine() -> None:
    assert imported_by(["uditsr.config"]) & HEAVY == set()


USERS, ITEMS, DEMANDS, WORDS = 400, 120, 12, 8
DTYPES = {
    "user_id": "int64", "item_id": "int64", "scene": "string", "query": "array<string>",
    "past_queries": "array<string>", "item_queries": "array<string>",
}  # fmt: skip
ENCODE = {
    "query": FieldEncoding(kind="bag", length=6),
    "past_queries": FieldEncoding(kind="bag", length=6),
    "item_queries": FieldEncoding(kind="bag", length=6),
}
SIDES = {"user_id": "user", "past_queries": "user", "item_id": "item", "item_queries": "item"}


class World:
    """Impressions, feed rows first, and what is made of them once."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.search = np.array(table["scene"].to_pylist()) == "search"
        self.clicks = table["click"].to_numpy()

    @cached_property
    def encoder(self) -> Encoder:
        """An encoder of both scenes: the feed alone holds no word of a query."""
        return Encoder.fit(self.table, DTYPES, ENCODE)


@cache
def world(seed: int, feed: int = 4000, search: int = 12_000, shuffled: bool = False) -> World:
    """Return impressions of a feed and of search, of one truth whatever the seed, feed rows first.

    A user wants mostly two of twelve things, an item is one of them, and a click depends on whether the item is what
    the row is about (logit +2.2) and a little on taste. Search says it in three words of eight; the feed says nothing.
    What a user searched for before, and what led to an item, is known in both. Half of the rows show what is wanted.
    """
    truth = np.random.default_rng(1000)
    kind = np.arange(ITEMS) % DEMANDS
    wants = np.stack([truth.choice(DEMANDS, 2, replace=False) for _ in range(USERS)])
    user_taste, item_taste = truth.normal(size=(USERS, 3)), truth.normal(size=(ITEMS, 3))
    past = np.array([[truth.choice(want) * WORDS + truth.integers(WORDS) for _ in range(6)] for want in wants])
    led = np.array([[one * WORDS + truth.integers(WORDS) for _ in range(6)] for one in kind])

    rng, rows = np.random.default_rng(seed), feed + search
    user, asks = rng.integers(0, USERS, rows), np.arange(rows) >= feed
    often = wants[user, rng.integers(0, 2, rows)]
    demand = np.where(rng.random(rows) < 0.9, often, rng.integers(0, DEMANDS, rows))
    fitting = rng.integers(0, ITEMS // DEMANDS, rows) * DEMANDS + demand
    item = np.where(rng.random(rows) < 0.5, fitting, rng.integers(0, ITEMS, rows))
    taste = (user_taste[user] * item_taste[item]).sum(axis=1) / np.sqrt(3)
    logit = -1.6 + 2.2 * (kind[item] == demand) + 0.6 * taste
    words = demand[:, None] * WORDS + rng.integers(0, WORDS, (rows, 3))
    if shuffled:
        words[asks] = words[asks][rng.permutation(search)]
    named = np.array([f"w{word:02d}" for word in range(DEMANDS * WORDS)], dtype=object)
    table = pa.table(
        {
            "user_id": user,
            "item_id": item,
            "scene": np.where(asks, "search", "feed").tolist(),
            "query": [named[row].tolist() if told else [] for row, told in zip(words, asks, strict=True)],
            "past_queries": named[past[user]].tolist(),
            "item_queries": named[led[item]].tolist(),
            "click": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32),
        }
    )
    return World(table)


def fitted(
    name: str, rows: World, seed: int, scene: str | None = None, **options: float
) -> tuple[Encoder, torch.nn.Module]:
    """Return the encoder of all rows, and a ranker that saw all of them, or those of one scene, six times."""
    kept = np.ones(len(rows.search), dtype=bool) if scene is None else rows.search == (scene == "search")
    schema = RankerSchema(
        declaration=Declaration(feedback=("click",), domain="scene"),
        fields=rows.encoder.fields,
        base_rates={"click": float(rows.clicks[kept].mean())},
        domains=("feed", "search"),
        sides=SIDES,
        rows=int(kept.sum()),
    )
    torch.manual_seed(seed)
    ranker = build_ranker(RankerConfig.of(name, **options), schema).train()
    batch = {field: values[kept] for field, values in tensors(rows.encoder, rows).items()}
    clicks = torch.tensor(rows.clicks[kept])
    optimiser = torch.optim.AdamW(ranker.parameters(), lr=0.01, weight_decay=1e-5)
    order = torch.Generator().manual_seed(seed)
    for _ in range(6):
        for at in torch.randperm(len(clicks), generator=order).split(512):
            loss = ranker.loss(ranker({field: values[at] for field, values in batch.items()}), {"click": clicks[at]})
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return rows.encoder, ranker.eval()


def tensors(encoder: Encoder, rows: World) -> dict[str, Tensor]:
    """Return rows as a ranker reads them."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in encoder.encode(rows.table).items()}


def auc_by_scene(made: tuple[Encoder, torch.nn.Module], rows: World) -> list[float]:
    """Return the AUC in the feed and in search."""
    encoder, ranker = made
    with torch.no_grad():
        scores = ranker(tensors(encoder, rows))["click"].numpy()
    found = []
    for kept in (~rows.search, rows.search):
        clicked, places = rows.clicks[kept] == 1, scores[kept].argsort().argsort() + 1
        ones = int(clicked.sum())
        found.append(float((places[clicked].sum() - ones * (ones + 1) / 2) / (ones * (len(clicked) - ones))))
    return found
