"""Do hashes, buckets and searches find the events that a candidate is about, the same ones everywhere?"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.config import RankerConfig
from components.rankers.sequences import hashing
from components.rankers.sequences.attention import of_size_one
from components.rankers.sequences.config import DinConfig, SdimConfig, SearchedConfig
from components.rankers.sequences.din import DinSequence
from components.rankers.sequences.sdim import SdimSequence
from components.rankers.sequences.search import best, product
from components.rankers.sequences.searched import Relevance, SearchedSequence
from components.testing.ranker import RankerContract, example_batch, example_schema, labels_of
from tests.golden_numbers import golden

EVENTS, TARGET = golden(2, 1, 6, 3).float(), golden(1, 1, 3).float()
MASK = torch.tensor([[1.0, 1, 1, 1, 1, 0]])


def sdim(width: int = 3, **options: Any) -> SdimSequence:
    """SDIM whose answers are not scaled."""
    made = SdimSequence(width, 6, SdimConfig(**options))
    with torch.no_grad():
        assert made.gain is not None
        made.gain.fill_(1.0)
    return made


def histories(rows: int, length: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Events of few values, so that many are alike, most recent first, and candidates of the same values."""
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(5, width, generator=g) * 0.01
    mask = (torch.arange(length) < torch.randint(length + 1, (rows, 1), generator=g)).float()
    events = values[torch.randint(5, (rows, length), generator=g)] * mask.unsqueeze(2)
    return events, mask, values[torch.randint(5, (rows,), generator=g)]


@torch.no_grad()
def test_sdim_is_the_golden_vector() -> None:
    made = sdim(hashes=6, signature=2)
    made.along = torch.sign(golden(6, 6, 3) + 0.05).t().float()
    found = made(EVENTS, MASK, TARGET)
    expected = torch.tensor([[0.5759122837, -0.1727736851, -0.2879561419]])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_search_by_hashes_is_the_golden_vector() -> None:
    made = SearchedSequence(3, 6, SearchedConfig(keep=2, bits=8))
    made.along = torch.sign(golden(5, 8, 3) + 0.05).t().float()
    assert hashing.bits(TARGET, made.along).int().tolist() == [[0, 1, 0, 0, 0, 1, 0, 0]]
    apart = (hashing.bits(EVENTS, made.along) != hashing.bits(TARGET, made.along).unsqueeze(1)).sum(dim=2)
    assert apart.tolist() == [[7, 1, 6, 4, 6, 3]]
    assert made.kept(EVENTS, MASK, TARGET).tolist() == [[1, 3]], "the last one is nearer, and is no event"


@torch.no_grad()
def test_the_search_by_category_keeps_the_newest_that_share_it() -> None:
    """The golden vector: categories 4 5 4 4 6 4, the candidate's is 4, the last place is padding."""
    kinds = torch.tensor([0.1, 0.2, 0.1, 0.1, 0.3, 0.1]).view(1, 6, 1)
    made = SearchedSequence(
        4, 6, SearchedConfig(search="category", by="kinds", keep=2), fields=("items", "more", "less", "kinds")
    )
    events, target = torch.cat([EVENTS, kinds], dim=2), torch.cat([TARGET, torch.tensor([[0.1]])], dim=1)
    assert made.kept(events, MASK, target).tolist() == [[0, 2]]
    unknown = torch.cat([TARGET, torch.zeros(1, 1)], dim=1)
    events[..., 3] = 0.0
    assert made.kept(events, MASK, unknown).tolist() == [[0, 1]], "what is unknown is shared with nobody: the newest"


@torch.no_grad()
def test_the_soft_search_is_the_golden_vector() -> None:
    made = Relevance(3)
    made.candidate.data, made.event.data = golden(3, 2, 3).float(), golden(4, 2, 3).float()
    r = torch.tensor([[-0.3819, 0.8394, -0.4639, 0.2228, 0.1569, 0.4444]])
    torch.testing.assert_close(made(EVENTS, TARGET) * 3, r, atol=1e-5, rtol=0)
    pooled = torch.tensor([[0.94557, -0.61746, -0.91469]])
    torch.testing.assert_close(made.pooled(EVENTS, TARGET, MASK) * 3, pooled, atol=1e-4, rtol=0)
    assert best(product(EVENTS, made.asked(TARGET)), MASK, 2).tolist() == [[1, 3]], "the last one is no event"


@given(seed=st.integers(0, 10**6), power=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_two_vectors_share_a_signature_as_often_as_their_angle_says(seed: int, power: int) -> None:
    """E[all τ bits agree] = (1 − angle/π)^τ; 4,096 signatures of directions that are ±1, in many dimensions."""
    g = torch.Generator().manual_seed(seed)
    q, noise = torch.randn(2, 64, generator=g)
    s = q + noise * float(torch.rand(1, generator=g)) * 2
    angle = math.acos(float(torch.cosine_similarity(q, s, dim=0)))
    along = torch.randint(2, (64, 4096 * power), generator=g).mul(2).sub(1).float()
    agree = (hashing.bits(q, along) == hashing.bits(s, along)).view(4096, power).all(dim=1).float().mean()
    expected = (1 - angle / math.pi) ** power
    # Directions that are ±1 meet angles only nearly: one part in fifty on top of four deviations.
    assert abs(float(agree) - expected) < 4 * math.sqrt(expected * (1 - expected) / 4096 + 1e-9) + 0.02


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_bits_do_not_depend_on_the_order_of_sums(seed: int) -> None:
    """Sums are of whole numbers, so rows scored alone, in a batch or in another order have the same bits."""
    g = torch.Generator().manual_seed(seed)
    vectors, along = torch.randn(300, 48, generator=g), hashing.directions(48, 48)
    whole, turned = hashing.bits(vectors, along), torch.randperm(48, generator=g)
    assert torch.equal(hashing.bits(vectors[:1], along), whole[:1])
    assert torch.equal(hashing.bits(vectors[:, turned], along[turned]), whole)
    assert torch.equal(hashing.bits(vectors.double(), along), whole)


@torch.no_grad()
def test_with_one_signature_of_everything_sdim_is_the_direction_of_the_sum() -> None:
    """A direction along which all lie on one side makes every event collide."""
    made = sdim(hashes=1, signature=1)
    made.along = torch.ones(3, 1)
    events, target = EVENTS.abs() + 0.1, TARGET.abs()
    expected = torch.nn.functional.normalize((events * MASK.unsqueeze(2)).sum(dim=1), dim=1)
    torch.testing.assert_close(made(events, MASK, target), expected)


@torch.no_grad()
def test_an_event_or_a_candidate_without_a_vector_meets_nothing() -> None:
    made = sdim()
    assert not made(torch.zeros(1, 6, 3), torch.ones(1, 6), TARGET).any()
    assert not made(EVENTS, MASK, torch.zeros(1, 3)).any()
    silent = torch.cat([EVENTS, torch.zeros(1, 1, 3)], dim=1)
    assert torch.equal(made(silent, torch.cat([MASK, torch.ones(1, 1)], dim=1), TARGET), made(EVENTS, MASK, TARGET))


@given(seed=st.integers(0, 1000), search=st.sampled_from(["hash", "category", "soft"]))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_a_search_that_keeps_all_is_its_encoder_on_all(seed: int, search: str) -> None:
    torch.manual_seed(seed)
    made = SearchedSequence(4, 8, SearchedConfig.model_validate({"search": search, "keep": 8}))
    events, mask, target = histories(5, 8, 4, seed)
    torch.testing.assert_close(made(events, mask, target), made.attend(events, mask, target))
    plain = DinSequence(4, 8, DinConfig())
    plain.load_state_dict(
        {k.removeprefix("attend."): v for k, v in made.state_dict().items() if k.startswith("attend")}
    )
    torch.testing.assert_close(plain(events, mask, target), made(events, mask, target))


@given(
    seed=st.integers(0, 1000),
    search=st.sampled_from(["hash", "soft"]),
    keep=st.integers(1, 7),
    more=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_what_is_kept_is_nearest_and_of_equals_the_newest(seed: int, search: str, keep: int, more: int) -> None:
    """By a sort of pairs (distance, place) in plain Python; room for more events changes nothing."""
    made = SearchedSequence(4, 12, SearchedConfig.model_validate({"search": search, "keep": keep, "bits": 16}))
    events, mask, target = histories(6, 12, 4, seed)
    if made.relevance is None:
        apart = (hashing.bits(events, made.along) != hashing.bits(target, made.along).unsqueeze(1)).sum(dim=2)
    else:
        moved = torch.Generator().manual_seed(seed)
        made.relevance.event.add_(torch.randn(4, 4, generator=moved))
        sized, asked = of_size_one(events).double(), of_size_one(made.relevance.asked(of_size_one(target))).double()
        steps = 2.0**10
        apart = -((sized * steps).round() * (asked * steps).round().unsqueeze(1)).sum(dim=2)
    kept = made.kept(events, mask, target)
    for row in range(6):
        there = [place for place in range(12) if mask[row, place]]
        nearest = sorted(there, key=lambda place: (int(apart[row, place]), place))[:keep]
        assert [place for place in kept[row].tolist() if mask[row, place]] == sorted(nearest)
    wide = torch.nn.functional.pad(events, (0, 0, 0, more)), torch.nn.functional.pad(mask, (0, more))
    torch.testing.assert_close(made(*wide, target), made(events, mask, target))


def test_only_what_is_kept_learns() -> None:
    made = SearchedSequence(3, 6, SearchedConfig(keep=2, bits=8))
    events = EVENTS.clone().requires_grad_()
    made(events, MASK, TARGET).sum().backward()
    assert events.grad is not None
    learned = events.grad[0].abs().sum(dim=1).nonzero().squeeze(1).tolist()
    assert learned == made.kept(EVENTS, MASK, TARGET)[0].tolist()


def soft(**options: Any) -> RankerModule:
    torch.manual_seed(0)
    block = {"sequence": {"recent_items": {"name": "searched", "search": "soft", "keep": 2, **options}}}
    return build_ranker(RankerConfig.of("dnn", embedding_width=4, **block), example_schema("like", "love"))


def test_a_soft_search_learns_by_a_loss_of_its_own_from_every_event() -> None:
    made, batch, labels = soft(), example_batch(50), labels_of("like", "love", rows=50)
    assert isinstance(made, ComposedRanker)
    outputs = made(batch)
    own = torch.stack(
        [
            functional.binary_cross_entropy_with_logits(z, labels[name])
            for name, z in zip(("like", "love"), outputs["auxiliary/recent_items"].unbind(dim=1), strict=True)
        ]
    ).sum()
    torch.testing.assert_close(made.loss(outputs, labels), made.head.loss(outputs, labels) + own)
    twice = soft(search_loss=2.0)
    torch.testing.assert_close(twice.loss(outputs, labels), made.head.loss(outputs, labels) + 2 * own)
    head, whole = (
        torch.autograd.grad(loss, [*made.histories.parameters()], retain_graph=True, allow_unused=True)
        for loss in (made.head.loss(outputs, labels), made.loss(outputs, labels))
    )
    names = [name for name, _ in made.histories.named_parameters()]
    taught = {
        name for name, before, after in zip(names, head, whole, strict=True) if before is None and after is not None
    }
    assert taught == {"recent_items.relevance.candidate", "recent_items.relevance.event"}


def test_a_search_for_no_candidate_has_no_loss() -> None:
    made = build_ranker(RankerConfig.of("dnn", sequence="searched", search="soft"), example_schema("like"))
    assert isinstance(made, ComposedRanker)
    assert [*made.auxiliary] == ["recent_items"], "likes are matched with nothing"
    assert not [name for name in soft().state_dict() if "recent_likes" in name]
    plain = build_ranker(RankerConfig.of("dnn", sequence="searched"), example_schema("like"))
    assert isinstance(plain, ComposedRanker) and not plain.auxiliary


class TestSoftSearch(RankerContract):
    ranker = SearchedConfig

    def config(self) -> RankerConfig:
        return RankerConfig.of("dnn", sequence="searched", search="soft", keep=3, embedding_width=4)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValidationError, match="hashes 48 is no multiple of signature 5: make it one"):
        RankerConfig.of("dnn", sequence={"recent": {"name": "sdim", "signature": 5}})
    with pytest.raises(BadInputError, match="'kind', which is no attribute of the history items, kinds"):
        SearchedSequence(4, 6, SearchedConfig(search="category", by="kind"), fields=("items", "kinds"))
