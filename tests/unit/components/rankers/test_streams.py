"""Are the attributes of an event read together where that is asked for, each history by the encoder named for it?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.config import RankerConfig
from components.rankers.sequences.din import DinSequence
from components.rankers.sequences.mean import MeanSequence
from components.rankers.sequences.searched import SearchedSequence
from components.rankers.sequences.tin import TinSequence
from components.testing.ranker import FIELDS, STREAM, example_batch, example_schema, unpadded, widened, without_events
from tests.registered import SEQUENCES

TIMES = STREAM[-1]


def ranker(sequence: Any = "din", fields: Any = FIELDS, **options: Any) -> ComposedRanker:
    """A ranker in evaluation mode, its weights away from zero."""
    torch.manual_seed(0)
    config = RankerConfig.of("dnn", sequence=sequence, embedding_width=4, embedding_std=1.0, **options)
    made = build_ranker(config, example_schema("like", fields=fields)).eval()
    assert isinstance(made, ComposedRanker)
    return made


def names(made: ComposedRanker) -> dict[str, tuple[str, ...]]:
    """By history, its attributes."""
    return {name: history.fields for name, history in made.read.items()}


def test_attributes_are_apart_unless_they_are_joined() -> None:
    apart, joined = ranker(), ranker(attributes="joined")
    assert names(apart) == {n: (n,) for n in ("genres", "recent_items", "recent_likes")}
    assert names(joined) == {"genres": ("genres",), TIMES: ("recent_items", "recent_likes")}
    assert joined.read[TIMES].targets == ("item_id", None)
    assert isinstance(joined.histories["genres"], MeanSequence), "a bag is a mean, whatever reads the histories"


@torch.no_grad()
def test_a_joined_event_is_its_attributes_side_by_side_and_so_is_the_candidate() -> None:
    made, batch = ranker(attributes="joined"), example_batch(9)
    fields = made.embedding(batch)
    vectors = torch.cat([fields.sequences["recent_items"], fields.sequences["recent_likes"]], dim=2)
    there = ((batch["recent_items"] != 0) | (batch["recent_likes"] != 0)).float()
    target = torch.cat([fields.categorical["item_id"], torch.zeros(9, 4)], dim=1)
    encoder = made.histories[TIMES]
    assert isinstance(encoder, DinSequence)
    expected = encoder(vectors, there, target)
    assert expected.shape == (9, 8)
    torch.testing.assert_close(made.field_vectors(batch).vectors[:, -2:], expected.unflatten(1, (2, 4)))
    moved = batch | {"item_id": batch["item_id"].roll(1)}
    assert not torch.equal(made.field_vectors(moved).vectors[:, -2:], made.field_vectors(batch).vectors[:, -2:])


@pytest.mark.parametrize("sequence", sorted(SEQUENCES))
def test_a_stream_is_scored_alike_padded_jagged_and_empty(sequence: str) -> None:
    made, batch = ranker(sequence, attributes="joined"), example_batch(40)
    answers, without = made(batch), made(without_events(batch))
    for given in (widened(batch, 3), unpadded(batch)):
        for name, values in made(given).items():
            torch.testing.assert_close(values, answers[name])
    for name, values in made(widened(without_events(batch), 3)).items():
        torch.testing.assert_close(values, without[name])


@pytest.mark.parametrize("sequence", sorted(SEQUENCES))
@torch.no_grad()
def test_the_newest_events_are_as_if_there_were_no_others(sequence: str) -> None:
    made, batch = ranker(sequence, newest=2), example_batch(40)
    dated = [name for name in STREAM if name in batch]
    answers = made(batch)
    assert all(history.length == 2 for name, history in made.read.items() if name != "genres")
    others = {name: torch.where(torch.arange(batch[name].shape[1]) < 2, batch[name], 0) for name in dated}
    assert any(bool((batch[name] != others[name]).any()) for name in dated), "some history is longer"
    for given in (batch | others, batch | {name: batch[name][:, :2] for name in dated}, unpadded(batch)):
        for name, values in made(given).items():
            torch.testing.assert_close(values, answers[name])
    whole = ranker(sequence)
    assert any(not torch.allclose(values, answers[name]) for name, values in whole(batch).items())
    assert "newest" not in RankerConfig.of("dnn").model_dump() and made(without_events(batch)).keys() == answers.keys()


def test_a_map_names_the_encoder_of_a_history_or_of_a_stream() -> None:
    made = ranker({TIMES: {"name": "searched", "keep": 3}})
    assert names(made) == {"genres": ("genres",), TIMES: ("recent_items", "recent_likes")}
    assert isinstance(made.histories[TIMES], SearchedSequence)
    assert made.histories[TIMES].keep == 3
    one = ranker({"recent_items": "tin"})
    assert isinstance(one.histories["recent_items"], TinSequence)
    assert isinstance(one.histories["recent_likes"], MeanSequence), "what is not named is read by the default"
    both = ranker({"recent_likes": "din", TIMES: "tin"})
    assert names(both)[TIMES] == ("recent_items",), "a field with an encoder of its own is no attribute of the stream"
    named = RankerConfig.of("din", sequence={"recent_items": "tin"})
    made = build_ranker(named, example_schema("like")).eval()  # type: ignore[assignment]
    assert isinstance(made.histories["recent_likes"], DinSequence), "the default is the ranker's own"


def test_the_sizes_of_an_encoder_in_a_map_are_the_rankers() -> None:
    plain, mapped = ranker("tin"), ranker({"recent_items": "tin", "recent_likes": "tin"})
    assert {n: p.shape for n, p in mapped.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    batch = example_batch(7)
    for name, values in plain(batch).items():
        assert torch.equal(mapped(batch)[name], values), "and it is the same ranker"


def test_what_was_written_before_stays_as_it_was() -> None:
    for name in ("dnn", "din", "autoint"):
        written = RankerConfig.of(name).model_dump()
        assert not {"attributes", "activation", "positions", "attention_width", "attention_dropout"} & written.keys()
    mapped = RankerConfig.of("dnn", sequence={"a": {"name": "transformer", "layers": 1}, "b": "din"})
    assert mapped.model_dump()["sequence"] == {
        "a": {"name": "transformer", "layers": 1, "heads": 2},
        "b": {"name": "din"},
    }
    assert RankerConfig.model_validate_json(mapped.model_dump_json()) == mapped


@pytest.mark.parametrize(
    ("sequence", "says"),
    [
        ({"a": "dim"}, "Input should be 'mean', 'din', 'tin'"),
        ({"a": {"name": "tin", "layers": 2}}, "sequence 'tin' has no 'layers' for one history: it reads positions"),
        ({"a": {"name": "transformer", "layers": 99}}, "less than or equal to 12"),
        ({"A b": "din"}, "should match pattern"),
    ],
)
def test_a_map_of_nonsense_is_refused(sequence: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RankerConfig.of("dnn", sequence=sequence)


def test_a_history_that_is_not_there_and_times_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"'recent_item', which is no history .*did you mean 'recent_items'"):
        ranker({"recent_item": "din"})
    timeless = tuple(
        f.model_copy(update={"timed_by": None}) if f.kind == "sequence" else f for f in FIELDS if f.kind != "elapsed"
    )
    with pytest.raises(BadInputError, match="sequence 'tin' reads when the events of 'recent_items' were"):
        ranker("tin", timeless, positions="elapsed")


@pytest.mark.parametrize(("positions", "moves"), [("order", False), ("elapsed", True), ("both", True)])
@torch.no_grad()
def test_tin_reads_when_events_were_where_it_is_told_to(positions: str, moves: bool) -> None:
    made, batch = ranker("tin", positions=positions), example_batch(20)
    later: dict[str, Tensor] = batch | {TIMES: torch.where(batch[TIMES] < 0, -1.0, batch[TIMES] * 40)}
    assert torch.equal(made(later)["like"], made(batch)["like"]) != moves
    for given in (batch, later):
        torch.testing.assert_close(made(unpadded(given))["like"], made(given)["like"])
