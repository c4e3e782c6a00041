"""Are pairs memorised, multiplied and left alone as asked, without a column of their own, and nothing else changed?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.base import size_of
from components.rankers.build import build_ranker
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.config import RankerConfig
from components.rankers.interactions.optinter import NOTHING, CrossTable, OptInter
from components.train.continue_ranker.config import Config as ContinueConfig
from features.declaration import FIRST, PADDING, UNKNOWN, Declaration, FieldSpec, RankerSchema

SIZES = {"age": 4, "film": 9, "user": 40}
SCHEMA = RankerSchema(
    declaration=Declaration(feedback=("like",)),
    fields=(
        *(FieldSpec(name=name, kind="categorical", size=FIRST + size, table=name) for name, size in SIZES.items()),
        FieldSpec(name="price", kind="numeric"),
    ),
    base_rates={"like": 0.3},
)
BLOCK: dict[str, Any] = {"embedding_width": 4, "embedding_std": 0.5, "hidden": (5,)}
PAIRS: dict[str, Any] = {"memorise": (("film", "age"), ("user", "film")), "factorise": (("user", "age"),)}


def ranker(seed: int = 0, **block: Any) -> ComposedRanker:
    torch.manual_seed(seed)
    made = build_ranker(RankerConfig.of("dnn", **BLOCK, **block), SCHEMA)
    assert isinstance(made, ComposedRanker)
    return made


def batch(rows: int, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    ids = {name: torch.randint(0, FIRST + size, (rows,), generator=g) for name, size in SIZES.items()}
    return ids | {"price": torch.randn(rows, generator=g)}


def step(made: ComposedRanker, given: dict[str, Tensor], rate: float = 0.1) -> None:
    labels = {"like": (torch.arange(len(given["age"])) % 2).float()}
    made.loss(made(given), labels).backward()  # type: ignore[no-untyped-call]  # torch does not type it
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad


def test_without_pairs_it_is_the_ranker_without_it_to_the_bit() -> None:
    plain, paired, given = ranker(), ranker(interaction="optinter"), batch(50)
    for _ in range(3):
        step(plain, given)
        step(paired, given)
    weights = plain.state_dict()
    assert {name: w for name, w in paired.state_dict().items() if name != "interaction.least"}.keys() == weights.keys()
    assert all(torch.equal(paired.state_dict()[name], weight) for name, weight in weights.items())
    assert torch.equal(plain(given)["like"], paired(given)["like"])


@torch.no_grad()
def test_towers_read_a_row_of_a_memorised_pair_and_a_product_of_a_factorised_one() -> None:
    made, given = ranker(interaction="optinter", **PAIRS), batch(30)
    part = made.interaction
    assert isinstance(part, OptInter) and part.out_features == (3 + 2 + 1) * 4 + 1
    part.embedding.weight.normal_()
    found = part(made.field_vectors(given))
    assert torch.equal(found[:, :13], made.field_vectors(given).side_by_side())
    rows = {name: made.embedding.weight[made.embedding.offsets[name] + given[name]] for name in SIZES}
    for row in range(30):
        age, film, user = (int(given[name][row]) for name in SIZES)
        first = 1 + (film - FIRST) * SIZES["age"] + age - FIRST if min(film, age) >= FIRST else None
        second = 1 + (user - FIRST) * SIZES["film"] + film - FIRST if min(user, film) >= FIRST else None
        block = part.embedding.weight[1 + 4 * 9 :]
        expected = torch.zeros(2, 4)
        if first is not None:
            expected[0] = part.embedding.weight[first]
        if second is not None:
            expected[1] = block[second]
        assert torch.equal(found[row, 13:21], expected.flatten())
        a, b = rows["user"][row], rows["age"][row]
        sized = (a / (a.square().mean() + 1.5**2).sqrt()) * (b / (b.square().mean() + 1.5**2).sqrt())
        torch.testing.assert_close(found[row, 21:], sized)


def test_what_training_never_held_says_nothing_and_the_row_of_unknown_values_never_learns() -> None:
    made = ranker(interaction="optinter", memorise=(("film", "age"),))
    given = batch(400) | {"film": torch.full((400,), FIRST + 2)}
    given["age"][:40] = UNKNOWN
    given["age"][40:80] = PADDING
    step(made, given)
    part = made.interaction
    assert isinstance(part, OptInter)
    touched = part.embedding.weight.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == [1 + 2 * 4 + age for age in range(4)]


def test_a_row_alone_is_the_row_in_a_batch() -> None:
    made, given = ranker(interaction="optinter", cross_rows=16, **PAIRS).eval(), batch(60)
    step(made, given)
    whole = made(given)["like"]
    for row in range(60):
        alone = made({name: values[row : row + 1] for name, values in given.items()})["like"]
        torch.testing.assert_close(alone, whole[row : row + 1], atol=1e-6, rtol=0)


@given(first=st.integers(3, 40), second=st.integers(3, 40), most=st.integers(16, 2000))
def test_every_combination_has_a_row_of_its_own_while_there_is_room_and_else_shares_one(
    first: int, second: int, most: int
) -> None:
    table = CrossTable([(first, second)], 2, most)
    i, j = torch.meshgrid(torch.arange(first), torch.arange(second), indexing="ij")
    places = table.places(0, i.flatten(), j.flatten())
    known = (i.flatten() >= FIRST) & (j.flatten() >= FIRST)
    assert (places[~known] == NOTHING).all() and (places[known] > NOTHING).all()
    assert table.rows[0] <= most and int(places.max()) < table.rows[0]
    if (first - FIRST) * (second - FIRST) < most:
        assert len(places[known].unique()) == int(known.sum()) == table.rows[0] - 1
    assert torch.equal(table.places(0, i.flatten()[-1:], j.flatten()[-1:]), places[-1:])


def test_hashed_combinations_spread_and_keep_their_row_when_a_vocabulary_grows() -> None:
    small, large = (CrossTable([(size, 1500)], 1, 2000) for size in (900, 1000))
    g = torch.Generator().manual_seed(0)
    one, other = torch.randint(FIRST, 900, (20_000,), generator=g), torch.randint(FIRST, 1500, (20_000,), generator=g)
    places = small.places(0, one, other)
    assert torch.equal(places, large.places(0, one, other))
    counts = torch.bincount(places, minlength=2000)[1:]
    assert counts.max() < 30 and (counts > 0).float().mean() > 0.99  # 10 each, were they drawn


def test_tables_count_among_the_embeddings() -> None:
    more = size_of(ranker(interaction="optinter", memorise=(("film", "age"),))).embedding - size_of(ranker()).embedding
    assert more == 4 * (1 + 9 * 4)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"memorise": (("film", "film"),)}, "optinter pairs 'film' with itself: name two fields"),
        (
            {"memorise": (("film", "age"),), "factorise": (("age", "film"),)},
            "optinter has the pair of 'age' and 'film' twice: leave one of them out",
        ),
    ],
)
def test_a_pair_that_makes_no_sense_is_refused(pairs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RankerConfig.of("dnn", interaction="optinter", **pairs)


@pytest.mark.parametrize("name", ["fim", "price"])
def test_a_pair_of_what_is_no_categorical_field_is_refused(name: str) -> None:
    message = f"interaction 'optinter' pairs '{name}', which is no categorical field of the training set"
    with pytest.raises(BadInputError, match=message):
        ranker(interaction="optinter", factorise=(("age", name),))


def test_a_memorised_pair_is_not_continued_where_row_numbers_change() -> None:
    block = {"name": "dnn", "interaction": "optinter", "memorise": [["film", "age"]]}
    with pytest.raises(
        ValidationError, match="a memorised pair has its rows by the numbers of two values, which chang"
    ):
        ContinueConfig.model_validate({"ranker": block})
