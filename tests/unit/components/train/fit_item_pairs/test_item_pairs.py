"""Do two vectors per item tell what goes together from what is alike, and are lists judged as by hand?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError, MissingError
from components.testing.component import ComponentKit, try_component
from components.train.fit_item_pairs.baskets import Baskets, Lines, baskets_of
from components.train.fit_item_pairs.config import COMPONENT, Config
from components.train.fit_item_pairs.judge import alike, by_counts, by_popularity, by_vectors, judged, lifted, pairs_of
from components.train.fit_item_pairs.report import Fit
from components.train.fit_item_pairs.skipgram import Learned, chances, kept, learn, pair_losses

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are too small for two
    yield
    torch.set_num_threads(threads)


def test_losses_and_draws_are_the_golden_numbers() -> None:
    v = torch.tensor([[0.4, -0.2]], dtype=torch.float64, requires_grad=True)
    o = torch.tensor([[0.5, 0.3]], dtype=torch.float64, requires_grad=True)
    drawn = torch.tensor([[-0.1, 0.6], [0.7, 0.1]], dtype=torch.float64, requires_grad=True)
    loss = pair_losses(v, o, drawn).sum()
    loss.backward()
    assert loss.item() == pytest.approx(2.0735124418, abs=1e-9)
    for tensor, gradient in (
        (v, [[0.116708, 0.192998]]),
        (o, [[-0.186023, 0.093011]]),
        (drawn, [[0.184034, -0.092017], [0.225855, -0.112927]]),
    ):
        torch.testing.assert_close(tensor.grad, torch.tensor(gradient, dtype=torch.float64), atol=1e-6, rtol=0)
    counts = np.array([50, 30, 15, 5])
    np.testing.assert_allclose(chances(counts, 0.75), [0.441517, 0.300996, 0.178973, 0.078514], atol=1e-6)
    np.testing.assert_allclose(chances(counts, -0.5), [0.137381, 0.177358, 0.250823, 0.434438], atol=1e-6)
    np.testing.assert_allclose(kept(counts, 0.1), [0.447214, 0.577350, 0.816497, 1], atol=1e-6)
    assert (kept(counts, None) == 1).all()


CATEGORIES, EACH = 12, 10
SMALL = {"basket": "basket", "width": 16, "epochs": 10, "batch_size": 2048, "learning_rate": 0.05, "negatives": 5}
GIVEN = SMALL | {"epochs": 1, "named": "kind", "at": [3, 9], "bootstrap": 20, "min_baskets": 5}


@cache
def world(seed: int, noise: float = 0.2) -> pl.DataFrame:
    """Return 15,000 baskets of two items whose categories go together; of a fifth of them the second is any item."""
    rng = np.random.default_rng(seed)
    first = rng.integers(CATEGORIES * EACH, size=15_000)
    partner = (first // EACH ^ 1) * EACH + rng.integers(EACH, size=len(first))
    second = np.where(rng.random(len(first)) < noise, rng.integers(CATEGORIES * EACH, size=len(first)), partner)
    times = [START + timedelta(minutes=i) for i in range(len(first))]
    rows = {"basket": np.arange(len(first)).repeat(2), "item_id": np.stack([first, second], axis=1).ravel()}
    stamps = pl.Series([time for time in times for _ in range(2)]).dt.cast_time_unit("us")
    return pl.DataFrame(rows).with_columns(event_timestamp=stamps, kind=pl.col("item_id") // EACH)


def shares(items: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return how much of the lists of ten is of the category that goes with the item's, and of its own."""
    own = np.arange(len(items))[:, None] // EACH
    return float((items // EACH == (own ^ 1)).mean()), float((items // EACH == own).mean())


def test_what_goes_together_is_asked_and_found_and_what_is_alike_is_asked_alike() -> None:
    for seed in (0, 1):
        baskets = baskets_of(world(seed), Config.model_validate(SMALL))
        learned = learn(baskets, Config.model_validate(SMALL))
        goes = shares(by_vectors(learned.asking, learned.found, 10).items)
        near = shares(alike(learned.asking, 9).items)
        assert goes[0] >= 0.9 and goes[1] <= 0.05
        assert near[0] <= 0.1 and near[1] >= 0.8
        swapped = by_vectors(learned.found, learned.asking, 10)
        scores = learned.asking @ learned.found.T
        np.testing.assert_allclose(swapped.scores[0], np.sort(np.delete(scores[:, 0], 0))[::-1][:10], rtol=1e-5)
    # Control: baskets of any two items tell neither.
    random = baskets_of(world(0, noise=1.0), Config.model_validate(SMALL))
    blind = learn(random, Config.model_validate(SMALL | {"epochs": 3}))
    assert shares(by_vectors(blind.asking, blind.found, 10).items)[0] < 0.3


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=40), st.integers(1, 5)
)  # fmt: skip
def test_every_pair_of_a_basket_is_shown_once_where_contexts_suffice(
    rows: list[tuple[int, int]], contexts: int
) -> None:
    pairs = sorted({*rows})
    lines = Lines(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
    expected = sorted((b, d) for a, b in pairs for c, d in pairs if a == c and b != d)
    ours, theirs, basket = pairs_of(lines)
    assert sorted(zip(ours.tolist(), theirs.tolist(), strict=True)) == expected and lines.pairs == len(expected)
    assert len({*basket.tolist()}) == len({a for a, _ in pairs if sum(a == c for c, _ in pairs) > 1})
    shown = [
        pair
        for some in lines.shown(contexts, np.random.default_rng(0))
        for pair in zip(*(side.tolist() for side in some), strict=True)
    ]
    assert not [pair for pair in shown if pair not in expected]
    most = sum(min(contexts, sum(a == c for c, _ in pairs) - 1) for a, _ in pairs)
    assert len(shown) == most and (contexts < 4 or sorted(shown) == expected)


def test_recall_counts_and_lift_are_those_counted_by_hand() -> None:
    train = Lines(np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 2, 0, 1, 0, 2]))
    test = Lines(np.array([7, 7, 7, 8, 8]), np.array([0, 1, 3, 2, 1]))
    baskets = Baskets(pl.Series([10, 11, 12, 13]), np.array([3, 2, 2, 1]), train, test, None, 0)
    together = baskets.together()
    assert together.toarray().tolist() == [[0, 2, 2, 0], [2, 0, 1, 0], [2, 1, 0, 0], [0, 0, 0, 0]]
    assert by_counts(together, 2).items.tolist() == [[1, 2], [0, 2], [0, 1], [-1, -1]]
    lift = lifted(together, baskets.counts, 3, least=2)
    np.testing.assert_allclose(lift.toarray(), [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert by_popularity(baskets.counts, 2).items.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    ways = {"count": by_counts(together, 2), "popular": by_popularity(baskets.counts, 2)}
    count, popular = judged(baskets, together, ways, 1, 0, 0)  # type: ignore[arg-type]
    # Lists of one: 0 → 1, 1 → 0, 2 → 0, 3 → none or 0. Lines 0, 1, 3 | 2, 1 find 1/2, 1/2, 0 | 0, 0 of the others.
    assert count.recall.value == pytest.approx((0.5 + 0.5) / 5)
    assert popular.recall.value == pytest.approx((0.5 + 0.5 + 0.5) / 5)
    # New are 0-3, 1-3, 3-0, 3-1.
    assert (count.new.value, popular.new.value) == (0.0, pytest.approx(1 / 4))
    assert (count.distinct, popular.distinct) == (2, 2)


def test_popularity_adds_the_chance_to_be_drawn() -> None:
    learned = Learned(*(np.ones((2, 3), np.float32),) * 2, np.log([0.9, 0.1]).astype(np.float32))
    ours, theirs = learned.sides(1.0)
    np.testing.assert_allclose(ours @ theirs.T, [[3 + np.log(0.9), 3 + np.log(0.1)]] * 2, rtol=1e-6)
    ours, theirs = learned.sides(0.0)
    assert (ours @ theirs.T == 3).all()


class TestFitItemPairs(ComponentKit):
    component = COMPONENT

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        world(0).head(6000).write_parquet(folders["table"] / "events.parquet")
        return GIVEN


def test_what_is_published_is_what_was_asked_for(tmp_path: Path) -> None:
    example = TestFitItemPairs().example
    by = {name: try_component(COMPONENT, example, tmp_path, {"publish": name}) for name in ("vectors", "count", "lift")}
    lists = {name: pl.read_parquet(tried.outputs["pairs"] / "pairs.parquet") for name, tried in by.items()}
    assert not lists["vectors"].equals(lists["count"]) and not lists["lift"].equals(lists["count"])
    assert (lists["count"]["score"] == lists["count"]["together"]).all()
    reports = [Fit.model_validate_json((t.outputs["pairs"] / "report.json").read_bytes()) for t in by.values()]
    assert reports[0].figures == reports[1].figures == reports[2].figures
    folder = by["count"].outputs["pairs"]
    page = (folder / "report.html").read_text()
    assert "<b>best</b>" in page and "how often together" in page
    items, near = (pl.read_parquet(folder / f"{name}.parquet") for name in ("items", "alike"))
    assert items["item"].is_sorted() and near.filter(pl.col("item") == pl.col("other")).is_empty()
    mixed = world(0).head(6000).sample(fraction=1.0, shuffle=True, seed=3)

    def shuffled(folders: Mapping[str, Path]) -> Mapping[str, Any]:
        mixed.write_parquet(folders["table"] / "events.parquet")
        return GIVEN

    assert try_component(COMPONENT, shuffled, tmp_path).digests == by["vectors"].digests, (
        "the order of rows says nothing"
    )


def test_what_cannot_be_learned_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def tried(rows: int = 6000, **config: Any) -> None:
        def example(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            world(0).head(rows).write_parquet(folders["table"] / "events.parquet")
            return SMALL | {"epochs": 1} | config

        try_component(COMPONENT, example, tmp_path)

    with pytest.raises(BadInputError, match=r"hold \d+ pairs of items in 20 baskets or more, and at least 1,000 are"):
        tried(400)
    with pytest.raises(BadInputError, match="log 'events' has no column 'baskt'"):
        tried(basket="baskt")
    with pytest.raises(MissingError, match="no log 'tills': name one of events"):
        tried(log="tills")
    for wrong, why in (({"at": [9, 3]}, "must rise"), ({"item": "basket"}, "basket and item are both 'basket'")):
        with pytest.raises(ValidationError, match=why):
            Config.model_validate(SMALL | wrong)
    columns = {"table": Columns({"basket": Column(), "item_id": Column()}, logs={"tills": Columns({"b": Column()})})}
    faults = [f.message for f in COMPONENT.flow.asks(Config(basket="baskets", named="title"), columns)]
    assert faults == [
        "the events: no column 'baskets' (did you mean 'basket'?)",
        "the events: no column 'title' (known: basket, item_id)",
    ]
    (missing,) = COMPONENT.flow.asks(Config(basket="b", log="till"), columns)
    assert missing.message == "the events table has no log 'till'"
    (absent,) = COMPONENT.flow.asks(Config(basket="b", log="tills"), columns)
    assert absent.message == "log 'tills': no column 'item_id' (known: b)"
