"""Does a search by content find what looks like the candidate, and weigh it by how alike it is?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from components.data.table_vectors import TableVectors, write_table
from components.judge.export_onnx.graph import export_graph
from components.judge.export_onnx.half import write_halved
from components.judge.export_onnx.parity import compare, require
from components.judge.export_onnx.request import request_ranker
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.config import RankerConfig
from components.rankers.embedding import content
from components.rankers.embedding.content import APART, ContentVectors
from components.rankers.sequences.config import MuseConfig
from components.rankers.sequences.muse import MuseSequence
from components.testing.ranker import FIELDS, STREAM, RankerContract, example_batch, example_schema
from components.train.frozen_vectors import buffers_of, give_vectors
from features.declaration import FIRST, FieldSpec
from registry.serving.model.session import open_session
from tests.golden_numbers import golden

ITEMS = FieldSpec(name="item_id", kind="categorical", size=12, table="item_id", content=4)


def muse(width: int, **options: Any) -> MuseSequence:
    torch.manual_seed(0)
    return MuseSequence(width, 12, MuseConfig(**options), content=ITEMS)


def held(vectors: Tensor) -> ContentVectors:
    """The cosines of values with these vectors, after padding and unknown."""
    size, wide = vectors.shape
    made = ContentVectors(ITEMS.model_copy(update={"size": FIRST + size, "content": wide}))
    made.take(torch.cat([torch.zeros(FIRST, wide), vectors]), torch.ones(FIRST + size))
    return made


@torch.no_grad()
def test_the_tiers_are_the_golden_vector() -> None:
    """Cosines .95, .31 and 0 lie in tiers 20, 14 and 10; the last place is padding."""
    made, weights = muse(21), golden(40, 22).float()
    made.tiers.copy_(torch.diag(weights[:21]))
    found = made.told(torch.tensor([[0.95, 0.31, 0.0, -0.2]]), torch.tensor([[1.0, 1, 1, 0]]))[0]
    expected = torch.zeros(21)
    expected[[10, 14, 20]] = torch.tensor([-0.2772588722, -0.4852030264, -0.2079441542])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_attention_is_the_golden_vector() -> None:
    made = muse(2)
    for seed, projection in ((3, made.query), (4, made.key), (5, made.value)):
        projection.weight.copy_(golden(seed, 2, 2))
        projection.bias.zero_()
    alike, there = torch.tensor([[0.95, 0.31, 0.0, -0.2]]), torch.tensor([[1.0, 1, 1, 0]])
    found = made.attended(golden(2, 1, 4, 2).float(), there, golden(1, 1, 2).float(), alike)
    torch.testing.assert_close(found, torch.tensor([[0.1101112678, 0.0263357252]]), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 10**6), wide=st.sampled_from([2, 16, 768, 3000]))
@settings(max_examples=20, deadline=None)
def test_cosines_are_those_of_the_vectors_and_missing_ones_are_none(seed: int, wide: int) -> None:
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(9, wide, generator=g) * torch.rand(9, 1, generator=g) * 100
    vectors[3] = 0.0
    made = held(vectors)
    one, other = torch.randint(FIRST + 9, (2, 40, 3), generator=g)
    found = made(one, other)
    padded = torch.cat([torch.zeros(FIRST, wide), vectors])
    known = (padded[one].abs().sum(dim=2) > 0) & (padded[other].abs().sum(dim=2) > 0)
    expected = torch.cosine_similarity(padded[one], padded[other], dim=2)
    assert bool((found[~known] == APART).all())
    assert float((found - expected)[known].abs().max() if known.any() else 0) < 0.02
    whole = made.digits.double()
    products = (whole[one] * whole[other]).sum(dim=2)
    assert float(products.abs().max()) < 2**24
    assert torch.equal(made(other, one), found)


def test_cosines_of_many_events_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = held(torch.randn(20, 5))
    one, other = torch.randint(22, (2, 6, 7))
    whole = made(one, other)
    monkeypatch.setattr(content, "_AT_ONCE", 15)
    assert torch.equal(made(one, other), whole)
    assert made(one[:, :0], other[:, :0]).shape == (6, 0)


@torch.no_grad()
def test_what_is_most_alike_is_kept_of_equals_the_newest_and_what_shows_nothing_last() -> None:
    made, events, mask = muse(4, keep=2), torch.eye(6, 4).unsqueeze(0), torch.tensor([[1.0, 1, 1, 1, 1, 0]])
    target, seen = torch.ones(1, 4), []
    made.attended = lambda taken, *_: seen.append(taken) or torch.zeros(1, 4)  # type: ignore[method-assign,func-returns-value]
    for alike, kept in (
        ([0.1, 0.9, 0.9, 0.9, -0.5, 1.0], [1, 2]),
        ([APART, 0.2, APART, -0.9, APART, 1.0], [1, 3]),
        ([APART, APART, APART, APART, APART, 1.0], [0, 1]),
    ):
        made(events, mask, target, torch.tensor([alike]))
        assert torch.equal(seen.pop(), events[:, kept])


@torch.no_grad()
def test_without_the_content_of_the_candidate_ids_alone_are_attended_to() -> None:
    made, target = muse(4, keep=6), torch.randn(1, 4)
    events, mask = torch.randn(1, 6, 4), torch.ones(1, 6)
    found = made(events, mask, target, torch.full((1, 6), APART))
    assert not found[:, 4:].any(), "nothing lies in a tier"
    torch.testing.assert_close(found[:, :4], made.attended(events, mask, target, torch.zeros(1, 6)))
    plain = MuseSequence(4, 12, MuseConfig(), content=None)
    torch.testing.assert_close(plain(events, mask, target), events.mean(dim=1))


class TestContract(RankerContract):
    ranker = MuseConfig


class TestContractOfAStream(RankerContract):
    ranker = MuseConfig

    def config(self) -> RankerConfig:
        return RankerConfig.of("dnn", sequence={STREAM[-1]: {"name": "muse", "keep": 3}})


def built(sequence: Any = "muse") -> RankerModule:
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of("dnn", sequence=sequence, hidden=(8,)), example_schema("like")).eval()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    for part in ranker.modules():
        if isinstance(part, ContentVectors):
            part.take(torch.cat([torch.zeros(FIRST, 4), torch.randn(part.size - FIRST, 4)]), torch.ones(part.size))
    return ranker


def test_only_content_decides_what_a_row_is_like() -> None:
    ranker, batch = built(), example_batch(30)
    before = ranker(batch)["like"]
    assert isinstance(ranker, ComposedRanker)
    encoder = ranker.histories["recent_items"]
    assert isinstance(encoder, MuseSequence) and encoder.content is not None
    assert not [p for p in encoder.content.parameters()], "vectors do not learn"
    encoder.content.take(torch.randn(12, 4), torch.ones(12))
    assert not torch.equal(ranker(batch)["like"], before)


def test_the_graph_answers_alike_of_rows_and_of_requests_long_and_short(tmp_path: Path) -> None:
    ranker, schema, path = built({"recent_items": {"name": "muse", "keep": 3}}), example_schema("like"), tmp_path / "m"
    rows = {name: values.numpy() for name, values in example_batch(1000).items()}
    once = (*STREAM, "taste", "user_id")
    whole: nn.Module = request_ranker(ranker, schema, once)
    for served, shared in ((ranker, ()), (whole, once)):
        export_graph(served, schema, ("like",), path, shared)
        for precision, allowed in (("float32", 1e-5), ("float16", 0.02)):
            if precision == "float16":
                write_halved(path, "muse")
            session = open_session(path, "cpu")
            found = compare(ranker, session, schema.fields, ("like",), rows, allowed, shared, precision)  # type: ignore[arg-type]
            require(found, "the differences")


def test_a_training_sets_vectors_reach_it_and_are_not_carried_over_from_an_earlier_ranker(tmp_path: Path) -> None:
    ranker, vectors = built(), np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    write_table(tmp_path, "item_id", TableVectors(vectors, np.ones(12, dtype=np.uint8)))
    give_vectors(ranker, tmp_path)
    (found,) = [part for part in ranker.modules() if isinstance(part, ContentVectors)]
    again = ContentVectors(ITEMS)
    again.take(torch.from_numpy(vectors), torch.ones(12))
    assert torch.equal(found.digits, again.digits) and torch.equal(found.squares, again.squares)
    assert buffers_of(ranker) == {f"histories.recent_items.content.{name}" for name in ("digits", "squares")}


def test_without_vectors_it_is_refused() -> None:
    bare = tuple(field.model_copy(update={"content": 0}) for field in FIELDS)
    with pytest.raises(BadInputError, match=r"sequence 'muse' reads vectors .* put attach_vectors between"):
        build_ranker(RankerConfig.of("dnn", sequence="muse"), example_schema("like", fields=bare))
    with pytest.raises(BadInputError, match=r"the history 'recent_likes' has none"):
        build_ranker(RankerConfig.of("dnn", sequence={"recent_likes": "muse"}), example_schema("like"))
